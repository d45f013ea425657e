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
        cache_salt: only requests with the same salt share prefixes.
        num_prompt_tokens: how many of them are the prompt.
        block_names: names of the full blocks, as far as they were needed yet.
        cached_blocks: contents to import into the slot before anything is computed.
        max_total_tokens: length at which generation ends, at most the context.
        num_cached_tokens: how many of the prompt were in the prefix cache.
        num_computed_tokens: how many have their keys and values in the cache.
        slot: the runner's sequence, while the request runs.
    """

    request_id: int
    token_ids: list[int]
    params: SamplingParams
    detokenizer: Detokenizer
    max_total_tokens: int
    cache_salt: bytes = b""
    num_prompt_tokens: int = field(init=False)
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    block_names: list[bytes] = field(default_factory=list)
    cached_blocks: list[bytes] = field(default_factory=list)
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
