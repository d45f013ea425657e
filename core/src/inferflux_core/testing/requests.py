"""Requests for tests."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from inferflux_core.backends.byte_tokenizer import ByteTokenizer
from inferflux_core.engine.detokenizer import Detokenizer
from inferflux_core.engine.request import Request
from inferflux_core.engine.sampling_params import SamplingParams

__all__ = ["make_request"]

_ids = itertools.count()


def make_request(
    prompt: str | Sequence[int] = "hello",
    *,
    max_tokens: int = 8,
    context: int = 256,
    cache_salt: bytes = b"",
    **params: Any,
) -> Request:
    """A greedy request over the byte vocabulary; `params` are those of `SamplingParams`."""
    tokenizer = ByteTokenizer()
    token_ids = list(prompt.encode()) if isinstance(prompt, str) else list(prompt)
    sampling = SamplingParams(
        **{"temperature": 0.0, "ignore_eos": True, "max_tokens": max_tokens, **params}
    )
    return Request(
        request_id=next(_ids),
        token_ids=token_ids,
        params=sampling,
        detokenizer=Detokenizer(tokenizer.piece, sampling.stop),
        max_total_tokens=min(context, len(token_ids) + max_tokens),
        cache_salt=cache_salt,
    )
