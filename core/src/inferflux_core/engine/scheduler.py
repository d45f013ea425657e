"""The contract between the engine and the policy that decides what it computes next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from inferflux_core.engine.request import Request

__all__ = ["ScheduledRequest", "Scheduler", "SchedulerLimits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerLimits:
    """What a scheduler has to respect.

    Attributes:
        max_num_seqs: requests that may run at once.
        max_num_batched_tokens: tokens a step may compute; at least `max_num_seqs + prefill_quantum`, so
            that a prompt makes progress beside a full house of generating requests.
        prefill_quantum: cut prompts at multiples of this many tokens.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    prefill_quantum: int = 1


@dataclass(frozen=True, slots=True)
class ScheduledRequest:
    """A request and how many of its pending tokens to compute in this step (at least one)."""

    request: Request
    num_tokens: int


class Scheduler(Protocol):
    """Decides the order of admission, and what each step computes.

    The engine calls `add_request` once per request, `schedule` once per step, and `finish_request` once
    when a request ends for whatever reason, waiting or running. A request runs from the first step that
    `schedule` names it in; from then on it must be finished before its place can be given away.
    """

    def add_request(self, request: Request) -> None:
        """Take a new request into the queue."""

    def finish_request(self, request: Request) -> None:
        """Forget a request."""

    def schedule(self) -> list[ScheduledRequest]:
        """Plan one step: at most `max_num_seqs` running requests and `max_num_batched_tokens` tokens.

        While any request is unfinished, the plan is not empty, so that every request makes progress.
        """

    @property
    def num_waiting(self) -> int:
        """Requests that do not run yet."""

    @property
    def num_running(self) -> int:
        """Requests that hold a slot."""
