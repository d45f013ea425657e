"""Times as APIs write them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from functools import lru_cache

__all__ = ["timestamp"]


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, of seconds since 1970."""
    whole = math.floor(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1e6):06d}Z"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    # Every line of a stream has a time, and most lines share their second.
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
