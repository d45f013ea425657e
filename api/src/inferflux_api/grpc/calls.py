"""From methods that know nothing of gRPC to handlers."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from inferflux_api.grpc.errors import CRASHED, abort
from inferflux_api.server import Server
from inferflux_core.auth import Principal
from inferflux_core.errors import InferFluxError, InvalidRequestError

__all__ = ["PRINCIPAL", "Call", "Context", "Methods", "Service", "handlers_of", "path_of"]

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Methods: TypeAlias = dict[
    str, Callable[[Any, "Call"], Awaitable[Message] | AsyncGenerator[Message, None]]
]

logger = logging.getLogger("inferflux.grpc")

PRINCIPAL: Final[ContextVar[Principal]] = ContextVar("grpc_principal")
"""Who calls; set before a handler runs, unless anybody may call it."""

_NOBODY: Final = Principal("", frozenset())


@dataclass(frozen=True, slots=True)
class Call:
    """One RPC.

    Attributes:
        principal: who calls.
        context: of the RPC.
    """

    principal: Principal
    context: Context

    def metadata(self, name: str) -> str | None:
        """What the caller sent under a name, if it did."""
        for key, value in self.context.invocation_metadata() or ():
            if key == name and isinstance(value, str):
                return value
        return None

    async def announce(self, headers: Mapping[str, str]) -> None:
        """Send headers before the answer."""
        await self.context.send_initial_metadata(tuple((k.lower(), v) for k, v in headers.items()))


class Service(Protocol):
    """What is served: for each method a coroutine function, or an async generator function if it streams.

    They are called with a message and a `Call`, and may raise `InferFluxError`.
    """

    descriptor: ServiceDescriptor
    methods: Methods


def path_of(method: MethodDescriptor) -> str:
    """How a method is called on the wire."""
    return f"/{method.containing_service.full_name}/{method.name}"


def handlers_of(service: Service, server: Server) -> grpc.GenericRpcHandler:
    """Serve every method of a service."""
    handlers = {
        name: _handler(method, service.methods[name], server)
        for name, method in service.descriptor.methods_by_name.items()
    }
    return grpc.method_handlers_generic_handler(service.descriptor.full_name, handlers)


def _handler(
    method: MethodDescriptor, behaviour: Any, server: Server
) -> grpc.RpcMethodHandler[Any, Any]:
    # Messages are parsed here: what the library does with a malformed one looks like our own failure.
    kind = GetMessageClass(method.input_type)

    async def whole(data: bytes, context: Context) -> Message:
        async def answer() -> Message:
            message: Message = await behaviour(
                _parse(kind, data), Call(PRINCIPAL.get(_NOBODY), context)
            )
            return message

        found: Message = await _guarded(answer(), path_of(method), context, server)
        return found

    async def stream(data: bytes, context: Context) -> None:
        async def answer() -> None:
            call = Call(PRINCIPAL.get(_NOBODY), context)
            async with aclosing(behaviour(_parse(kind, data), call)) as messages:
                async for message in messages:
                    await context.write(message)

        await _guarded(answer(), path_of(method), context, server)

    serialize = GetMessageClass(method.output_type).SerializeToString
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(stream, response_serializer=serialize)
    return grpc.unary_unary_rpc_method_handler(whole, response_serializer=serialize)


def _parse(kind: type[Message], data: bytes) -> Message:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise InvalidRequestError(
            f"the request is not a message of type {kind.DESCRIPTOR.full_name}"
        ) from error


async def _guarded(answer: Any, path: str, context: Context, server: Server) -> Any:
    try:
        return await answer
    except InferFluxError as error:
        own = error
    except Exception as error:
        logger.error("%s failed", path, exc_info=error)
        own = InferFluxError(CRASHED)
    own = server.audit.refusal(
        own, action=path, client=context.peer() or "", principal=PRINCIPAL.get(_NOBODY)
    )
    server.count_error(own)
    return await abort(context, own)
