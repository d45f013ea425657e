"""Fetching a small JSON document from a server that may be slow, broken or hostile."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import httpx2
import msgspec

__all__ = ["FetchError", "get_json"]

TIMEOUT: Final = 3.0
"""Seconds for the whole exchange, however slowly the server drips."""
MAX_BYTES: Final = 256 * 1024


class FetchError(Exception):
    """The document could not be had; the message says why, for the operator."""


async def get_json(client: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    """Fetch a JSON object. Redirects are not followed.

    Raises:
        FetchError: no such answer within 3 seconds and 256 KiB.
    """
    try:
        async with asyncio.timeout(TIMEOUT):
            body = await _read(client, url)
    except TimeoutError:
        raise FetchError(f"{url}: no answer within {TIMEOUT:g} seconds") from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise FetchError(f"{url}: {str(error) or type(error).__name__}") from error
    try:
        return msgspec.json.decode(body, type=dict)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise FetchError(f"{url}: the answer is not a JSON object") from None


async def _read(client: httpx2.AsyncClient, url: str) -> bytes:
    # Uncompressed: a few compressed bytes could unfold to gigabytes.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    async with client.stream("GET", url, headers=headers, follow_redirects=False) as response:
        if response.status_code != 200:
            raise FetchError(f"{url}: status {response.status_code}")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_BYTES:
                raise FetchError(f"{url}: the answer exceeds {MAX_BYTES} bytes")
        return bytes(body)
