"""Downloading a blob, again from where it broke off."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from typing import Final

import httpx2
import msgspec

from inferflux_api.library.store import LibraryStore
from inferflux_core.errors import EngineUnavailableError, InvalidRequestError

__all__ = ["Progress", "download", "get_json", "get_text"]

_ATTEMPTS: Final = 4
_EVERY_BYTES: Final = 4 * 1024 * 1024
_MAX_DOCUMENT: Final = 8 * 1024 * 1024


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far something has come.

    Attributes:
        status: for people.
        digest: of the file at hand.
        total: its size in bytes.
        completed: bytes that are there.
    """

    status: str
    digest: str | None = None
    total: int | None = None
    completed: int | None = None


async def get_json(client: httpx2.AsyncClient, url: str, accept: str) -> object:
    """A small document.

    Raises:
        InvalidRequestError: the other side refuses it, or it is none.
        EngineUnavailableError: the other side cannot be reached.
    """
    content = await _get(client, url, accept)
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequestError(f"{url} is not JSON") from error


async def get_text(client: httpx2.AsyncClient, url: str, digest: str) -> str:
    """A small text, whose digest is known.

    Raises:
        InvalidRequestError: the other side refuses it, or what comes has another digest.
        EngineUnavailableError: the other side cannot be reached.
    """
    content = await _get(client, url, "*/*")
    if digest != f"sha256:{hashlib.sha256(content).hexdigest()}":
        raise InvalidRequestError(f"{url} has another digest", param="digest")
    return content.decode("utf-8", "replace")


async def _get(client: httpx2.AsyncClient, url: str, accept: str) -> bytes:
    try:
        async with client.stream("GET", url, headers={"accept": accept}) as response:
            if response.status_code in (401, 403, 404):
                raise InvalidRequestError("pull model manifest: file does not exist", param="model")
            response.raise_for_status()
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > _MAX_DOCUMENT:
                    raise InvalidRequestError(f"{url} is longer than {_MAX_DOCUMENT} bytes")
    except httpx2.HTTPError as error:
        raise EngineUnavailableError(_cause(url, error)) from error
    return bytes(content)


async def download(
    client: httpx2.AsyncClient, store: LibraryStore, url: str, digest: str, size: int
) -> AsyncGenerator[Progress, None]:
    """Fetch a blob into the store, unless it is there.

    Args:
        client: that follows redirects.
        store: where it goes.
        url: where it is.
        digest: that it must have.
        size: in bytes.

    Raises:
        InvalidRequestError: what comes has another digest or size.
        EngineUnavailableError: the other side cannot be reached, or breaks off again and again.
    """
    status = f"pulling {digest.removeprefix('sha256:')[:12]}"
    if store.has(digest):
        yield Progress(status, digest, size, size)
        return
    async with store.writing(digest) as writer:
        for attempt in range(1, _ATTEMPTS + 1):
            yield Progress(status, digest, size, writer.written)
            told = writer.written
            try:
                async with client.stream("GET", url, headers=_range(writer.written)) as response:
                    response.raise_for_status()
                    if writer.written and response.status_code != 206:
                        writer.restart()
                    async for chunk in response.aiter_bytes():
                        await writer.write(chunk)
                        if writer.written > size:
                            writer.restart()
                            raise InvalidRequestError(f"{url} is longer than {size} bytes")
                        if writer.written - told >= _EVERY_BYTES:
                            told = writer.written
                            yield Progress(status, digest, size, told)
            except httpx2.HTTPError as error:
                if attempt == _ATTEMPTS or _final(error):
                    raise EngineUnavailableError(_cause(url, error)) from error
            if writer.written == size:
                break
        else:
            raise EngineUnavailableError(f"{url} broke off {_ATTEMPTS} times; pull again to go on")
    yield Progress(status, digest, size, size)


def _range(start: int) -> dict[str, str]:
    return {"range": f"bytes={start}-"} if start else {}


def _final(error: httpx2.HTTPError) -> bool:
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return 400 <= status < 500


def _cause(url: str, error: httpx2.HTTPError) -> str:
    return f"{url} cannot be fetched: {str(error) or type(error).__name__}"
