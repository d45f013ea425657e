"""Requests per minute and tenant."""

from __future__ import annotations

import time

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from inferflux_core.auth import Principal
from inferflux_core.errors import RateLimitedError

__all__ = ["RateLimiter"]


class RateLimiter:
    """A moving window over the last minute; `None` allows everything."""

    def __init__(self, requests_per_minute: int | None) -> None:
        self._item = RateLimitItemPerMinute(requests_per_minute) if requests_per_minute else None
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    async def check(self, principal: Principal) -> dict[str, str]:
        """Count one request; returns the headers that tell the client where it stands.

        Raises:
            RateLimitedError: the tenant has used up its minute.
        """
        if self._item is None:
            return {}
        admitted = await self._limiter.hit(self._item, principal.tenant)
        window = await self._limiter.get_window_stats(self._item, principal.tenant)
        reset = max(window.reset_time - time.time(), 0.0)
        if not admitted:
            raise RateLimitedError(
                f"the limit of {self._item.amount} requests per minute is reached",
                retry_after=max(reset, 1.0),
            )
        return {
            "x-ratelimit-limit-requests": str(self._item.amount),
            "x-ratelimit-remaining-requests": str(window.remaining),
            "x-ratelimit-reset-requests": f"{reset:.0f}s",
        }
