"""The guardrail: asks about whole texts, and waits for the answer."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Final

import httpx2
import msgspec

from inferflux_core.breaker import Breaker
from inferflux_core.guardrails import Blocked, Direction, GuardrailContext
from inferflux_guardrail_opa.cache import Cache
from inferflux_guardrail_opa.config import OPAConfig, check_endpoint
from inferflux_guardrail_opa.decision import AnswerError, question, verdict

__all__ = ["OPAError", "OPAReviewer"]

_MAX_ANSWER: Final = 64 * 1024
_CONNECTIONS: Final = 64
_HEADERS: Final = {
    "accept": "application/json",
    # A few compressed bytes could unfold to gigabytes.
    "accept-encoding": "identity",
    "content-type": "application/json",
}


class OPAError(Exception):
    """There is no verdict; the message says why, for the operator, without the text."""


class OPAReviewer:
    """Asks a policy server; see `inferflux_core.guardrails.Reviewer`.

    Args:
        config: whom to ask, and about what.
        clock: seconds, monotonic.

    Raises:
        ConfigError: the endpoint is not acceptable.
    """

    def __init__(self, config: OPAConfig, clock: Callable[[], float] = time.monotonic) -> None:
        check_endpoint(config.endpoint)
        self._config = config
        self._client: httpx2.AsyncClient | None = None
        self._breaker = Breaker(clock)
        self._cache = Cache(config.cache_seconds, clock)
        self.directions = frozenset(Direction(check) for check in config.checks)
        self.piece = config.piece

    async def review(self, context: GuardrailContext, text: str) -> None:
        """Judge a text.

        Raises:
            Blocked: the policy does not allow it.
            OPAError: there is no verdict.
        """
        body = msgspec.json.encode(question(self._config.api, context, text))
        if len(body) > self._config.max_bytes:
            raise OPAError(
                f"the question has {len(body)} bytes, more than guardrails.options.opa.max_bytes"
            )
        key = hashlib.sha256(body).digest()
        known, rule = self._cache.get(key)
        if not known:
            rule = await self._ask(body)
            self._cache.put(key, rule)
        if rule is not None:
            raise Blocked(rule)

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _ask(self, body: bytes) -> str | None:
        if not self._breaker.admits():
            raise OPAError("the policy server has failed several times; it is asked again soon")
        try:
            async with asyncio.timeout(self._config.timeout):
                rule = verdict(self._config.api, await self._post(body))
        except TimeoutError:
            self._breaker.failed()
            raise OPAError(
                f"no answer of the policy server within {self._config.timeout:g} seconds"
            ) from None
        except (OPAError, AnswerError, httpx2.HTTPError) as error:
            self._breaker.failed()
            raise OPAError(f"the policy server: {str(error) or type(error).__name__}") from error
        self._breaker.succeeded()
        return rule

    async def _post(self, body: bytes) -> bytes:
        if self._client is None:
            # Not before there is an event loop; and no proxy from the environment gets to see prompts.
            limits = httpx2.Limits(max_connections=_CONNECTIONS)
            self._client = httpx2.AsyncClient(trust_env=False, timeout=None, limits=limits)
        request = self._client.stream(
            "POST", self._config.endpoint, content=body, headers=_HEADERS, follow_redirects=False
        )
        async with request as response:
            if response.status_code != 200:
                raise OPAError(f"status {response.status_code}")
            answer = bytearray()
            async for chunk in response.aiter_raw():
                answer += chunk
                if len(answer) > _MAX_ANSWER:
                    raise OPAError(f"the answer exceeds {_MAX_ANSWER} bytes")
            return bytes(answer)
