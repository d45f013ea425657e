"""Where a caller stands, as OpenAI's headers say it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from inferflux_api.governance.limits.store import Standing

__all__ = ["limit_headers"]


def limit_headers(standings: Sequence[Standing]) -> dict[str, str]:
    """`x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, of the limit of which the least is left.

    How many requests run at a time has no header.
    """
    tightest: dict[str, Standing] = {}
    for standing in standings:
        if standing.rule.seconds:
            unit = "tokens" if standing.rule.in_tokens else "requests"
            if unit not in tightest or _remaining(standing) < _remaining(tightest[unit]):
                tightest[unit] = standing
    headers: dict[str, str] = {}
    for unit, standing in tightest.items():
        headers[f"x-ratelimit-limit-{unit}"] = str(standing.rule.limit)
        headers[f"x-ratelimit-remaining-{unit}"] = str(_remaining(standing))
        headers[f"x-ratelimit-reset-{unit}"] = _duration(standing.reset)
    return headers


def _remaining(standing: Standing) -> int:
    return max(standing.rule.limit - standing.used, 0)


def _duration(seconds: float) -> str:
    """Whole seconds as OpenAI writes them: `6m0s`."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"
