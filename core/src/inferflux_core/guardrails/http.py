"""Asking a server about texts. Needs httpx2, which comes with the extra `http`."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import msgspec

from inferflux_core.errors import ConfigError
from inferflux_core.guardrails.reviewing import ReviewError

__all__ = ["PolicyClient", "check_endpoint"]

_MAX_ANSWER: Final = 64 * 1024
_CONNECTIONS: Final = 64
_HEADERS: Final = {
    "accept": "application/json",
    # A few compressed bytes could unfold to gigabytes.
    "accept-encoding": "identity",
    "content-type": "application/json",
}


def check_endpoint(key: str, url: str, *, clear: bool = False) -> None:
    """Refuse addresses to which prompts would travel in the clear, or not at all.

    Args:
        key: under which the address is configured.
        url: the address.
        clear: accept http to other machines, too.

    Raises:
        ConfigError: it is no https URL, nor http on the loopback interface.
    """
    try:
        parts = urlsplit(url)
        usable = parts.port != 0 and bool(parts.hostname)
    except ValueError:
        usable = False
    else:
        plain = parts.scheme == "http" and (clear or _is_loopback(parts.hostname))
        usable = usable and (parts.scheme == "https" or plain)
        usable = usable and not (parts.fragment or parts.username or parts.password)
    if not usable:
        raise ConfigError(
            f"{key} is not acceptable: {url!r}",
            hint="Give an https URL, such as https://policy.example/v1/data/inferflux/allow; "
            "http is accepted for 127.0.0.1 and localhost.",
        )


def _is_loopback(host: str | None) -> bool:
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


class PolicyClient:
    """Posts JSON to one address, and reads JSON of at most 64 KiB. Redirects are not followed.

    Args:
        endpoint: the address, checked already.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._client: httpx2.AsyncClient | None = None

    async def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Ask, and wait for the answer as long as it takes.

        Raises:
            ReviewError: there is none.
        """
        try:
            answer = await self._exchange(body, {**(headers or {}), **_HEADERS})
        except httpx2.HTTPError as error:
            raise ReviewError(str(error) or type(error).__name__) from error
        try:
            return msgspec.json.decode(answer, type=dict[str, Any])
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise ReviewError("its answer is not a JSON object") from None

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _exchange(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        if self._client is None:
            # Not before there is an event loop; and no proxy from the environment gets to see prompts.
            limits = httpx2.Limits(max_connections=_CONNECTIONS)
            self._client = httpx2.AsyncClient(trust_env=False, timeout=None, limits=limits)
        request = self._client.stream(
            "POST", self._endpoint, content=body, headers=headers, follow_redirects=False
        )
        async with request as response:
            if response.status_code != 200:
                raise ReviewError(f"status {response.status_code}")
            answer = bytearray()
            async for chunk in response.aiter_raw():
                answer += chunk
                if len(answer) > _MAX_ANSWER:
                    raise ReviewError(f"its answer exceeds {_MAX_ANSWER} bytes")
            return bytes(answer)
