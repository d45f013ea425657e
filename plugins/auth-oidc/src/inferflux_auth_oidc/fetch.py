"""Asking a server that may be slow, broken or hostile for a small JSON document."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import httpx2
import msgspec

__all__ = ["FetchError", "get_json", "post_form"]

TIMEOUT: Final = 3.0
"""Seconds for the whole exchange, however slowly the server drips."""
MAX_BYTES: Final = 256 * 1024

# Uncompressed: a few compressed bytes could unfold to gigabytes.
_HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity"}


class FetchError(Exception):
    """The document could not be had; the message says why, for the operator."""


async def get_json(client: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    """Fetch a JSON object. Redirects are not followed.

    Raises:
        FetchError: no such answer within 3 seconds and 256 KiB.
    """
    return await _exchange(client, "GET", url, TIMEOUT)


async def post_form(
    client: httpx2.AsyncClient,
    url: str,
    form: Mapping[str, str],
    auth: tuple[str, str],
    seconds: float,
) -> dict[str, Any]:
    """Send a form, with HTTP Basic authentication, and return the JSON object of the answer.

    Raises:
        FetchError: as with `get_json`, within `seconds`.
    """
    return await _exchange(client, "POST", url, seconds, data=form, auth=auth)


async def _exchange(
    client: httpx2.AsyncClient, method: str, url: str, seconds: float, **content: Any
) -> dict[str, Any]:
    try:
        async with asyncio.timeout(seconds):
            body = await _read(client, method, url, **content)
    except TimeoutError:
        raise FetchError(f"{url}: no answer within {seconds:g} seconds") from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise FetchError(f"{url}: {str(error) or type(error).__name__}") from error
    try:
        return msgspec.json.decode(body, type=dict)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise FetchError(f"{url}: the answer is not a JSON object") from None


async def _read(client: httpx2.AsyncClient, method: str, url: str, **content: Any) -> bytes:
    request = client.stream(method, url, headers=_HEADERS, follow_redirects=False, **content)
    async with request as response:
        if response.status_code != 200:
            raise FetchError(f"{url}: status {response.status_code}")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_BYTES:
                raise FetchError(f"{url}: the answer exceeds {MAX_BYTES} bytes")
        return bytes(body)
