"""Times as Ollama writes and reads them."""

from __future__ import annotations

import re
from typing import Final

from inferflux_core.errors import InvalidRequestError

__all__ = ["keep_alive_seconds", "nanoseconds"]

_UNITS: Final = {
    **{"ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "ms": 1e-3},
    **{"s": 1.0, "m": 60.0, "h": 3600.0},
}
_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|\u00b5s|ms|s|m|h)")
_LONGEST: Final = 10 * 365 * 86400.0


def nanoseconds(seconds: float) -> int:
    """A duration as Go counts it."""
    return max(int(seconds * 1e9), 0)


def keep_alive_seconds(given: float | str) -> float | None:
    """For how long a model is to stay after its last use: seconds, or None for ever.

    Args:
        given: seconds, or a duration such as `1h30m`; negative means for ever.

    Raises:
        InvalidRequestError: it is neither.
    """
    seconds = _parsed(given) if isinstance(given, str) else given
    if seconds is None or seconds != seconds:
        raise InvalidRequestError(
            f"keep_alive {given!r} is neither a number of seconds nor a duration such as 5m"
        )
    # Only now: an integer may be too large for any float.
    return None if seconds < 0 or seconds > _LONGEST else float(seconds)


def _parsed(text: str) -> float | None:
    sign = -1.0 if text.startswith("-") else 1.0
    body = text.lstrip("+-")
    if not body:
        return None
    try:
        return sign * float(body)
    except ValueError:
        pass
    if _PART.sub("", body):
        return None
    return sign * sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(body))
