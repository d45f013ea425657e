"""Reading and decoding request bodies."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
import numpy as np
from litestar import Request

from inferflux_core.errors import InvalidRequestError, PayloadTooLargeError

__all__ = ["decode_json", "read_json"]

T = TypeVar("T")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_OPENING = np.frombuffer(b"[{", np.uint8)
_CLOSING = np.frombuffer(b"]}", np.uint8)


async def read_json(
    request: Request[Any, Any, Any],
    decoder: msgspec.json.Decoder[T],
    *,
    max_bytes: int,
    max_depth: int,
) -> T:
    """The body, whatever its content type says: many clients send JSON under another name.

    Raises:
        PayloadTooLargeError: more than `max_bytes`; noticed before all of it is read.
        InvalidRequestError: not JSON, nested too deeply, or not of the expected shape.
    """
    return decode_json(await _read(request, max_bytes), decoder, max_depth)


def decode_json(body: bytes, decoder: msgspec.json.Decoder[T], max_depth: int) -> T:
    """Decode a body.

    Raises:
        InvalidRequestError: not JSON, nested too deeply, or not of the expected shape.
    """
    if not body:
        raise InvalidRequestError("the request body is empty; it must be a JSON object")
    _check_depth(body, max_depth)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        param = path.rstrip("`").lstrip(".") or None
        where = f"{param}: " if param else ""
        raise InvalidRequestError(f"{where}{message}", param=param) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"the request body is not valid JSON: {error}") from error


async def _read(request: Request[Any, Any, Any], max_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise PayloadTooLargeError(_too_large(max_bytes))
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidRequestError("compressed request bodies are not accepted")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise PayloadTooLargeError(_too_large(max_bytes))
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(max_bytes: int) -> str:
    return f"the request body exceeds {max_bytes} bytes (`server.max_body_bytes`)"


def _check_depth(body: bytes, max_depth: int) -> None:
    """Refuse deep nesting before a recursive decoder sees it. Vectorised: a body may have megabytes."""
    if body.count(b"[") + body.count(b"{") <= max_depth:
        return
    bare = np.frombuffer(_STRING.sub(b"", body), np.uint8)
    opening = np.isin(bare, _OPENING).cumsum(dtype=np.int64)
    closing = np.isin(bare, _CLOSING).cumsum(dtype=np.int64)
    if len(bare) and int((opening - closing).max()) > max_depth:
        raise InvalidRequestError(f"the request body is nested deeper than {max_depth} levels")
