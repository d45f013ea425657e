"""Actions of administrators over HTTP, whatever the dialect: every route whose scope is not harmless."""

from __future__ import annotations

from typing import Final

import msgspec
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, ReceiveMessage, Scope, Send

from inferflux_api.governance.audit.actions import CURRENT, Action, is_action
from inferflux_api.governance.audit.log import AuditLog

__all__ = ["AuditedActions", "client_of", "route_of"]

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_MAX_TARGET: Final = 256


class _Target(msgspec.Struct, frozen=True):
    """The fields of a body that say what an action is about. No other field is ever noted."""

    model: str | None = None
    name: str | None = None
    id: str | None = None
    instance_id: str | None = None
    lora_name: str | None = None
    lora_path: str | None = None
    base_model_name: str | None = None
    source: str | None = None
    destination: str | None = None
    from_: str | None = msgspec.field(default=None, name="from")


_decoder = msgspec.json.Decoder(_Target)


class AuditedActions(ASGIMiddleware):
    """Notes each action before its handler can act, and how it ended once it was answered."""

    scopes = (ScopeType.HTTP, ScopeType.WEBSOCKET)

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Pass a request on, and watch it if it is an action."""
        handler = scope["route_handler"]
        if scope.get("method") in _SAFE or not is_action(str(handler.opt.get("scope", "public"))):
            await next_app(scope, receive, send)
            return
        action = Action(self._log, route_of(scope), client=client_of(scope))
        values = scope.get("path_params", {}).values()
        action.target = _written([str(value) for value in values])
        token = CURRENT.set(action)
        answered = _Answered(send)
        # With a body, an action begins when all of it is there, so that it can be said what it is about.
        body: Receive = _Body(receive, action) if "body" in handler.opt else receive
        try:
            await next_app(scope, body, answered)
        finally:
            CURRENT.reset(token)
            self._log.finish(action, answered.outcome)


class _Answered:
    """Remembers the status of an answer, and whether all of it was sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._status = 0
        self._complete = False

    @property
    def outcome(self) -> str:
        if not self._complete:
            return "abort"
        return "ok" if self._status < 400 else f"http_{self._status}"

    async def __call__(self, message: Message) -> None:
        await self._send(message)
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif message["type"] == "http.response.body":
            self._complete = not message.get("more_body", False)


class _Body:
    """Looks at a body on its way, and begins the action before the handler has seen its end."""

    def __init__(self, receive: Receive, action: Action) -> None:
        self._receive = receive
        self._action = action
        self._chunks: list[bytes] = []

    async def __call__(self) -> ReceiveMessage:
        message = await self._receive()
        if message["type"] == "http.request":
            self._chunks.append(message.get("body", b""))
            if not message.get("more_body", False):
                self._action.target = _target(b"".join(self._chunks)) or self._action.target
                self._chunks.clear()
                self._action.begin()
        return message


def _target(body: bytes) -> str:
    try:
        named = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # The handler will refuse it, too.
        return ""
    return _written([value for value in msgspec.structs.astuple(named) if value])


def _written(values: list[str]) -> str:
    return " ".join(value[:_MAX_TARGET] for value in values)


def route_of(scope: Scope) -> str:
    """What is asked for, without anything that a client has chosen: `POST /v1/models/load`."""
    return f"{scope.get('method', 'WEBSOCKET')} {scope.get('path_template', '')}"


def client_of(scope: Scope) -> str:
    """Address of whoever is connected."""
    client = scope.get("client")
    return str(client[0]) if client else ""
