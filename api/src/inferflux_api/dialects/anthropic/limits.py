"""Where a caller stands, in Anthropic's headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["limit_headers"]

_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(\d+)s")


def limit_headers(headers: Mapping[str, str], now: datetime | None = None) -> dict[str, str]:
    """`anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}` for OpenAI's headers of that kind.

    Args:
        headers: of a response or an error.
        now: by default, the time it is; Anthropic names the moment of the reset, and not how long until it.
    """
    renamed: dict[str, str] = {}
    for unit in ("requests", "tokens"):
        for figure in ("limit", "remaining", "reset"):
            value = headers.get(f"x-ratelimit-{figure}-{unit}")
            if value is not None:
                if figure == "reset":
                    value = _moment(value, now or datetime.now(UTC))
                renamed[f"anthropic-ratelimit-{unit}-{figure}"] = value
    return renamed


def _moment(duration: str, now: datetime) -> str:
    match = _DURATION.fullmatch(duration)
    assert match is not None, duration
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    moment = now + timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
