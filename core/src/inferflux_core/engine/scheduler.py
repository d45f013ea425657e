"""The contract between the engine and the policy that decides what it computes next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from inferflux_core.engine.cost import CostModel
from inferflux_core.engine.request import Request

__all__ = ["ScheduledRequest", "Scheduler", "SchedulerLimits", "SchedulerOutput"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerLimits:
    """What a scheduler has to respect.

    Attributes:
        max_num_seqs: requests that may run at once.
        max_num_batched_tokens: tokens a step may compute; at least `max_num_seqs + prefill_quantum`, so
            that a prompt makes progress beside a full house of generating requests.
        prefill_quantum: cut prompts at multiples of this many tokens.
        cost: what passes cost here, where the runner has measured it.
        max_inter_token_seconds: how long a step may take while somebody waits for their next token;
            prompts are cut to fit, as far as `cost` can tell. None is no limit.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    prefill_quantum: int = 1
    cost: CostModel | None = None
    max_inter_token_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ScheduledRequest:
    """A request and how many of its pending tokens to compute in this step (at least one).

    Every generating request is in every plan. Its pending tokens are its next one, others that are known
    already, and drafts; what the plan leaves out is computed later, or dropped if it is a draft.
    """

    request: Request
    num_tokens: int


@dataclass(frozen=True, slots=True)
class SchedulerOutput:
    """The plan of a step.

    Attributes:
        scheduled: what to compute.
        preempted: requests that ran and are to give up their slots before anything is computed. The
            scheduler has put them back into its queue; they compute again what is not kept.
    """

    scheduled: list[ScheduledRequest]
    preempted: list[Request] = field(default_factory=list)


class Scheduler(Protocol):
    """Decides the order of admission, and what each step computes.

    The engine calls `add_request` once per request, `schedule` once per step, and `finish_request` once
    when a request ends for whatever reason, waiting or running. A request runs from the first step that
    `schedule` names it in, until it is finished or a plan names it as preempted.
    """

    def add_request(self, request: Request) -> None:
        """Take a new request into the queue."""

    def finish_request(self, request: Request) -> None:
        """Forget a request."""

    def schedule(self) -> SchedulerOutput:
        """Plan one step: at most `max_num_seqs` running requests and `max_num_batched_tokens` tokens.

        While any request is unfinished, the plan is not empty, so that every request makes progress.
        """

    @property
    def num_waiting(self) -> int:
        """Requests that do not run yet."""

    @property
    def num_running(self) -> int:
        """Requests that hold a slot."""
