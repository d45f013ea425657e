"""One generation and its progress."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from inferflux_core.engine.constraints.state import ConstraintState
from inferflux_core.engine.detokenizer import Detokenizer
from inferflux_core.engine.protocol import TokenReport
from inferflux_core.engine.runner import AdapterSet
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
        max_total_tokens: length at which generation ends, at most the context.
        cache_salt: only requests with the same salt share prefixes.
        tenant: on whose behalf it runs.
        priority: lower ones go first; 0 is usual.
        adapters: what is applied to the model.
        constraint: what the output has to look like.
        num_prompt_tokens: how many of `token_ids` are the prompt.
        num_prefill_tokens: how many must be computed before the request generates: the prompt, and
            after a preemption all that was generated before it.
        num_computed_tokens: how many have their keys and values in the cache.
        num_cached_tokens: how many of the prompt were in the prefix cache.
        in_reasoning: whether the prompt ends within the model's reasoning.
        draft_token_ids: guesses at what comes after `token_ids`, to be verified in the next step.
        prompt_reports: of the prompt's tokens, the first of which has none, if they were asked for.
        slot: the runner's sequence, while the request runs.
        arrival: when it came, on the clock of `time.monotonic`.
    """

    request_id: int
    token_ids: list[int]
    params: SamplingParams
    detokenizer: Detokenizer
    max_total_tokens: int
    cache_salt: bytes = b""
    tenant: str = ""
    priority: int = 0
    adapters: AdapterSet = ()
    constraint: ConstraintState | None = None
    num_prompt_tokens: int = field(init=False)
    num_prefill_tokens: int = field(init=False)
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    in_reasoning: bool = False
    draft_token_ids: list[int] = field(default_factory=list)
    prompt_reports: list[TokenReport] = field(default_factory=list)
    status: RequestStatus = RequestStatus.WAITING
    slot: int | None = None
    arrival: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.num_prompt_tokens = self.num_prefill_tokens = len(self.token_ids)

    @property
    def is_generating(self) -> bool:
        """Whether its prompt is computed and somebody waits for its next token."""
        return self.num_computed_tokens >= self.num_prefill_tokens

    @property
    def num_pending_tokens(self) -> int:
        """Tokens to compute before the next one can be sampled, drafts included."""
        return len(self.token_ids) + len(self.draft_token_ids) - self.num_computed_tokens

    @property
    def output_token_ids(self) -> list[int]:
        """The tokens generated so far."""
        return self.token_ids[self.num_prompt_tokens :]
