"""One WebSocket of an SDK: who it is, and everything that runs on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import msgspec
from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect

from inferflux_api.dialects.lmstudio.errors import sdk_error
from inferflux_api.dialects.lmstudio.sdk.calls import CALLS, Caller
from inferflux_api.dialects.lmstudio.sdk.channels import CHANNELS
from inferflux_api.dialects.lmstudio.sdk.login import identify
from inferflux_api.governance.audit.actions import is_action
from inferflux_api.governance.audit.web import client_of
from inferflux_api.governance.authentication import require
from inferflux_api.http.body import decode_json
from inferflux_api.server import Server
from inferflux_core.auth import Principal
from inferflux_core.errors import (
    AuthenticationError,
    InferFluxError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    QueueFullError,
)

__all__ = ["Session"]

logger = logging.getLogger("inferflux.http")

_MAX_RUNNING: Final = 64
_LOGIN_SECONDS: Final = 15.0
_decoder = msgspec.json.Decoder(dict[str, Any])


class _Ids(msgspec.Struct, frozen=True):
    """What is left to answer to of a frame that cannot be taken."""

    type: str
    callId: int | str | None = None  # noqa: N815 - as it is on the wire
    channelId: int | str | None = None  # noqa: N815


_ids = msgspec.json.Decoder(_Ids)


@dataclass(slots=True, eq=False)
class _Channel:
    """A channel that is open.

    Attributes:
        task: that feeds it.
        cancelled: set when the client wants no more of it.
        waiting: whether it waits for the server, rather than to begin or for its client to read.
    """

    task: asyncio.Task[None] | None = None
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: bool = False

    def cancel(self) -> None:
        """End it in good order: whatever it does, it has to tell its client of the end."""
        if not self.cancelled.is_set():
            self.cancelled.set()
            if self.task is not None and self.waiting:
                self.task.cancel()


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
        self._channels: dict[object, _Channel] = {}
        self._sending = asyncio.Lock()
        self._principal: Principal | None = None

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
            principal = await identify(self._server.authenticator, self._socket.headers, frame)
        except (InferFluxError, TimeoutError) as error:
            if not isinstance(error, InferFluxError):
                error = AuthenticationError("no login came in time")
            error = self._noted(error, "login")
            self._server.count_error(error)
            # The protocol wants a text. The Python package takes it apart as an object, and fails on a text.
            in_python = "python" in self._socket.headers.get("user-agent", "").lower()
            problem = sdk_error(error) if in_python else error.message
            await self._send({"success": False, "error": problem})
            await self._socket.close(code=1008, reason="not authenticated")
            return None
        self._principal = principal
        await self._send({"success": True})
        return principal

    async def _receive(self) -> dict[str, Any]:
        """The next frame that makes sense; the client is told of others."""
        limits = self._server.body_limits
        while True:
            text = await self._socket.receive_data("text")
            data = text.encode("utf-8", "replace")
            try:
                if len(data) > limits["max_bytes"]:
                    raise PayloadTooLargeError(f"a frame of over {limits['max_bytes']} bytes")
                return decode_json(data, _decoder, limits["max_depth"])
            except (InvalidRequestError, PayloadTooLargeError) as error:
                await self._refuse(data, error)

    async def _refuse(self, data: bytes, error: InferFluxError) -> None:
        """Tell of a frame that cannot be taken; who waits for an answer to it must not wait in vain."""
        try:
            ids = _ids.decode(data)
        except (msgspec.MsgspecError, RecursionError):
            ids = _Ids("")
        if ids.type in ("rpcCall", "channelCreate"):
            await self._fail(msgspec.structs.asdict(ids), error)
        else:
            await self._warn(error.message)

    async def _take(self, caller: Caller, frame: dict[str, Any]) -> None:
        kind = frame.get("type")
        if kind == "rpcCall":
            await self._start(partial(self._call, caller, frame), frame)
        elif kind == "channelCreate":
            await self._open(caller, frame)
        elif kind == "channelSend":
            message = frame.get("message")
            channel = self._channels.get(_hashable(frame.get("channelId")))
            if channel and isinstance(message, dict) and message.get("type") == "cancel":
                channel.cancel()
        elif kind == "communicationWarning":
            logger.debug("an SDK of LM Studio says: %s", str(frame.get("warning"))[:512])
        elif kind == "keepAlive":
            await self._send({"type": "keepAliveAck"})
        else:
            await self._warn(f"frames of type {str(kind)[:64]!r} do not exist here")

    async def _open(self, caller: Caller, frame: dict[str, Any]) -> None:
        channel_id = _hashable(frame.get("channelId"))
        if channel_id in self._channels:
            await self._warn("this channel exists already")
            return
        channel = _Channel()
        channel.task = await self._start(partial(self._feed, caller, frame, channel), frame)
        if channel.task is not None:
            self._channels[channel_id] = channel
            channel.task.add_done_callback(lambda _: self._channels.pop(channel_id, None))

    async def _start(
        self, work: Callable[[], Awaitable[None]], frame: dict[str, Any]
    ) -> asyncio.Task[None] | None:
        if len(self._tasks) >= _MAX_RUNNING:
            await self._fail(frame, QueueFullError(f"{_MAX_RUNNING} calls are running already"))
            return None
        task = asyncio.create_task(_until_left(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _call(self, caller: Caller, frame: dict[str, Any]) -> None:
        try:
            scope, function = _known(CALLS[self._namespace], frame)
            caller = self._admitted(caller, scope)
            parameter = _parameter(frame, "parameter")
            with self._audited(scope, frame, parameter):
                result = await function(caller, parameter)
        except InferFluxError as error:
            await self._fail(frame, error)
        except WebSocketDisconnect:
            raise
        except Exception:
            logger.exception("a call of an SDK failed")
            await self._fail(frame, InferFluxError("the server failed on this call; it was logged"))
        else:
            await self._send({"type": "rpcResult", "callId": frame.get("callId"), "result": result})

    async def _feed(self, caller: Caller, frame: dict[str, Any], channel: _Channel) -> None:
        channel_id = frame.get("channelId")
        try:
            scope, function = _known(CHANNELS[self._namespace], frame)
            caller = self._admitted(caller, scope)
            parameter = _parameter(frame, "creationParameter")
            async with contextlib.AsyncExitStack() as stack:
                stack.enter_context(self._audited(scope, frame, parameter))
                messages = function(caller, parameter, channel.cancelled)
                await stack.enter_async_context(contextlib.aclosing(messages))
                channel.waiting = True
                async for message in messages:
                    channel.waiting = False
                    await self._send(
                        {"type": "channelSend", "channelId": channel_id, "message": message}
                    )
                    channel.waiting = True
                channel.waiting = False
        except InferFluxError as error:
            await self._fail(frame, error)
            return
        except asyncio.CancelledError:
            if not channel.cancelled.is_set():
                raise
        except WebSocketDisconnect:
            raise
        except Exception:
            logger.exception("a channel of an SDK failed")
            await self._fail(frame, InferFluxError("the server failed on this; it was logged"))
            return
        await self._send({"type": "channelClose", "channelId": channel_id})

    def _admitted(self, caller: Caller, scope: str) -> Caller:
        """The caller as it is now: a connection does not outlive its key.

        Raises:
            AuthenticationError: it is nobody any more.
            PermissionDeniedError: it lacks the scope.
        """
        principal = self._server.authenticator.renew(caller.principal)
        require(principal, scope)
        return replace(caller, principal=principal)

    def _audited(
        self, scope: str, frame: dict[str, Any], parameter: dict[str, Any]
    ) -> contextlib.AbstractContextManager[None]:
        """What notes a call or channel, if it changes the server."""
        if self._principal is None or not is_action(scope):
            return contextlib.nullcontext()
        named = (parameter.get(name) for name in ("identifier", "modelKey"))
        target = " ".join(name[:256] for name in named if isinstance(name, str))
        endpoint = f"{self._namespace}.{frame.get('endpoint')}"
        return self._server.audit.action(
            self._principal, endpoint, target, client_of(self._socket.scope)
        )

    def _noted(self, error: InferFluxError, action: str) -> InferFluxError:
        return self._server.audit.refusal(
            error,
            action=f"{self._namespace}.{action}",
            client=client_of(self._socket.scope),
            principal=self._principal,
        )

    async def _fail(self, frame: dict[str, Any], error: InferFluxError) -> None:
        error = self._noted(error, str(frame.get("endpoint"))[:64])
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
        text = msgspec.json.encode(message).decode()
        async with self._sending:
            try:
                await self._socket.send_data(text)
            except (OSError, RuntimeError) as error:
                # What servers say when the client has left already.
                raise WebSocketDisconnect(detail="the client has left") from error


async def _until_left(work: Callable[[], Awaitable[None]]) -> None:
    with contextlib.suppress(WebSocketDisconnect):
        await work()


def _known(table: dict[str, Any], frame: dict[str, Any]) -> Any:
    endpoint = frame.get("endpoint")
    found = table.get(endpoint) if isinstance(endpoint, str) else None
    if found is None:
        raise NotFoundError(f"there is no {str(endpoint)[:64]!r} here")
    return found


def _parameter(frame: dict[str, Any], name: str) -> dict[str, Any]:
    parameter = frame.get(name) or {}
    if not isinstance(parameter, dict):
        raise InvalidRequestError(f"{name} is an object", param=name)
    return parameter


def _hashable(value: object) -> object:
    return value if isinstance(value, int | str) else None
