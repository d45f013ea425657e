"""One WebSocket of an SDK: who it is, and everything that runs on it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Coroutine, Iterator
from contextlib import aclosing
from typing import Any, Final

import msgspec
from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect

from inferflux_api.dialects.lmstudio.errors import sdk_error
from inferflux_api.dialects.lmstudio.sdk.calls import CALLS, Caller
from inferflux_api.dialects.lmstudio.sdk.channels import CHANNELS
from inferflux_api.http.body import decode_json
from inferflux_api.server import Server
from inferflux_core.auth import Principal
from inferflux_core.errors import (
    AuthenticationError,
    InferFluxError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    QueueFullError,
)

__all__ = ["Session"]

logger = logging.getLogger("inferflux.http")

_MAX_RUNNING: Final = 64
_LOGIN_SECONDS: Final = 15.0
_decoder = msgspec.json.Decoder(dict[str, Any])


class Session:
    """Answers calls and feeds channels until the client leaves; what runs then is ended.

    Args:
        socket: accepted.
        namespace: that its path names.
    """

    def __init__(self, socket: WebSocket[Any, Any, Any], namespace: str) -> None:
        self._socket = socket
        self._namespace = namespace
        self._server: Server = socket.app.state.server
        self._tasks: set[asyncio.Task[None]] = set()
        self._channels: dict[object, tuple[asyncio.Task[None], asyncio.Event]] = {}
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Authenticate, then serve."""
        try:
            principal = await self._authenticate()
            if principal is None:
                return
            caller = Caller(self._server, principal, self._namespace)
            while True:
                await self._take(caller, await self._receive())
        except WebSocketDisconnect:
            pass
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _authenticate(self) -> Principal | None:
        """Who the first frame, or the headers, prove the client to be. Says no and closes otherwise."""
        try:
            async with asyncio.timeout(_LOGIN_SECONDS):
                frame = await self._receive()
            principal = await self._identify(frame)
        except (InferFluxError, TimeoutError) as error:
            if not isinstance(error, InferFluxError):
                error = AuthenticationError("no login came in time")
            await self._send({"success": False, "error": sdk_error(error)})
            await self._socket.close(code=1008, reason="not authenticated")
            return None
        await self._send({"success": True})
        return principal

    async def _identify(self, frame: dict[str, Any]) -> Principal:
        for credential in _credentials(self._socket.headers, frame):
            try:
                return await self._server.authenticator.identify(credential)
            except AuthenticationError:
                continue
        raise AuthenticationError(
            "no valid API key: put it into the address, as `user:KEY@host:port`, or send it as the "
            "client's passkey"
        )

    async def _receive(self) -> dict[str, Any]:
        """The next frame that makes sense; the client is told of others."""
        limits = self._server.body_limits
        while True:
            text = await self._socket.receive_data("text")
            try:
                if len(text) > limits["max_bytes"]:
                    raise InvalidRequestError(f"a frame of over {limits['max_bytes']} bytes")
                return decode_json(text.encode(), _decoder, limits["max_depth"])
            except InvalidRequestError as error:
                await self._warn(error.message)

    async def _take(self, caller: Caller, frame: dict[str, Any]) -> None:
        kind = frame.get("type")
        if kind == "rpcCall":
            await self._start(self._call(caller, frame), frame)
        elif kind == "channelCreate":
            await self._open(caller, frame)
        elif kind == "channelSend":
            message = frame.get("message")
            known = self._channels.get(_hashable(frame.get("channelId")))
            if known and isinstance(message, dict) and message.get("type") == "cancel":
                task, cancelled = known
                if not cancelled.is_set():
                    cancelled.set()
                    task.cancel()
        else:
            await self._warn(f"frames of type {str(kind)[:64]!r} do not exist here")

    async def _open(self, caller: Caller, frame: dict[str, Any]) -> None:
        channel_id = _hashable(frame.get("channelId"))
        if channel_id in self._channels:
            await self._warn("this channel exists already")
            return
        cancelled = asyncio.Event()
        task = await self._start(self._feed(caller, frame, cancelled), frame)
        if task is not None:
            self._channels[channel_id] = task, cancelled
            task.add_done_callback(lambda _: self._channels.pop(channel_id, None))

    async def _start(
        self, work: Coroutine[Any, Any, None], frame: dict[str, Any]
    ) -> asyncio.Task[None] | None:
        if len(self._tasks) >= _MAX_RUNNING:
            work.close()
            await self._fail(frame, QueueFullError(f"{_MAX_RUNNING} calls are running already"))
            return None
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _call(self, caller: Caller, frame: dict[str, Any]) -> None:
        try:
            scope, function = _known(CALLS[self._namespace], frame)
            _require(caller.principal, scope)
            result = await function(caller, _parameter(frame, "parameter"))
        except InferFluxError as error:
            await self._fail(frame, error)
        except Exception:
            logger.exception("a call of an SDK failed")
            await self._fail(frame, InferFluxError("the server failed on this call; it was logged"))
        else:
            await self._send({"type": "rpcResult", "callId": frame.get("callId"), "result": result})

    async def _feed(self, caller: Caller, frame: dict[str, Any], cancelled: asyncio.Event) -> None:
        channel_id = frame.get("channelId")
        try:
            scope, function = _known(CHANNELS[self._namespace], frame)
            _require(caller.principal, scope)
            parameter = _parameter(frame, "creationParameter")
            async with aclosing(function(caller, parameter, cancelled)) as messages:
                async for message in messages:
                    await self._send(
                        {"type": "channelSend", "channelId": channel_id, "message": message}
                    )
        except InferFluxError as error:
            await self._fail(frame, error)
            return
        except asyncio.CancelledError:
            if not cancelled.is_set():
                raise
        except Exception:
            logger.exception("a channel of an SDK failed")
            await self._fail(frame, InferFluxError("the server failed on this; it was logged"))
            return
        await self._send({"type": "channelClose", "channelId": channel_id})

    async def _fail(self, frame: dict[str, Any], error: InferFluxError) -> None:
        self._server.count_error(error)
        answer: dict[str, Any] = {"error": sdk_error(error)}
        if frame.get("type") == "rpcCall":
            answer |= {"type": "rpcError", "callId": frame.get("callId")}
        else:
            answer |= {"type": "channelError", "channelId": frame.get("channelId")}
        await self._send(answer)

    async def _warn(self, warning: str) -> None:
        await self._send({"type": "communicationWarning", "warning": warning})

    async def _send(self, message: dict[str, Any]) -> None:
        async with self._sending:
            await self._socket.send_data(msgspec.json.encode(message).decode())


def _credentials(headers: Any, frame: dict[str, Any]) -> Iterator[str]:
    """Everything that may be a key, what was meant to be one first."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        yield value.strip()
    elif kind.lower() == "basic":
        try:
            decoded = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            decoded = ""
        yield decoded.partition(":")[2]
    if key := headers.get("x-api-key"):
        yield key
    identifier, passkey = frame.get("clientIdentifier"), frame.get("clientPasskey")
    if isinstance(passkey, str) and passkey:
        yield passkey
        if isinstance(identifier, str):
            # A token of LM Studio's kind comes in two halves.
            yield f"{identifier}:{passkey}"


def _known(table: dict[str, Any], frame: dict[str, Any]) -> Any:
    endpoint = frame.get("endpoint")
    found = table.get(endpoint) if isinstance(endpoint, str) else None
    if found is None:
        raise NotFoundError(f"there is no {str(endpoint)[:64]!r} here")
    return found


def _require(principal: Principal, scope: str) -> None:
    if not principal.allows(scope):
        raise PermissionDeniedError(f"this key lacks the scope '{scope}'")


def _parameter(frame: dict[str, Any], name: str) -> dict[str, Any]:
    parameter = frame.get(name) or {}
    if not isinstance(parameter, dict):
        raise InvalidRequestError(f"{name} is an object", param=name)
    return parameter


def _hashable(value: object) -> object:
    return value if isinstance(value, int | str) else None
