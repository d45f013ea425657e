"""One generation and its progress."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from inferflux_core.engine.detokenizer import Detokenizer
from inferflux_core.engine.sampling_params import SamplingParams

__all__ = ["FinishReason", "Request", "RequestStatus"]


class RequestStatus(IntEnum):
    """Where a request is in its life."""

    WAITING = 0
    RUNNING = 1
    FINISHED = 2


class FinishReason(Enum):
    """Why a request ended."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


@dataclass(slots=True, eq=False)
class Request:
    """One generation.

    There is no prefill phase and no decode phase: `num_computed_tokens` catches up with
    `len(token_ids)`, and whenever it does, the runner returns logits and one more token is appended.

    Attributes:
        request_id: unique while the request lives.
        token_ids: prompt and output.
        num_prompt_tokens: how many of them are the prompt.
        max_total_tokens: length at which generation ends, at most the context.
        num_computed_tokens: how many have their keys and values in the cache.
        slot: the runner's sequence, while the request runs.
    """

    request_id: int
    token_ids: list[int]
    params: SamplingParams
    detokenizer: Detokenizer
    max_total_tokens: int
    num_prompt_tokens: int = field(init=False)
    num_computed_tokens: int = 0
    status: RequestStatus = RequestStatus.WAITING
    slot: int | None = None
    arrival: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.num_prompt_tokens = len(self.token_ids)

    @property
    def num_pending_tokens(self) -> int:
        """Tokens that still have to be computed before the next one can be sampled."""
        return len(self.token_ids) - self.num_computed_tokens

    @property
    def output_token_ids(self) -> list[int]:
        """The tokens generated so far."""
        return self.token_ids[self.num_prompt_tokens :]
