"""Plain gRPC clients, from nothing but the descriptors of what is served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass


class Client:
    """Calls the methods of one service by their names; `metadata` goes with every call."""

    def __init__(
        self, channel: grpc.Channel, service: ServiceDescriptor, metadata: dict[str, str]
    ) -> None:
        self._metadata = tuple(metadata.items())
        self._channel = channel
        self._service = service

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = self._service.methods_by_name[name]
        kind = f"{'stream' if method.client_streaming else 'unary'}_"
        kind += "stream" if method.server_streaming else "unary"
        call = getattr(self._channel, kind)(
            f"/{self._service.full_name}/{name}",
            request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        return lambda request, **kw: call(request, **{"metadata": self._metadata, **kw})


@contextmanager
def channel(
    port: int, credentials: grpc.ChannelCredentials | None = None
) -> Iterator[grpc.Channel]:
    options = [("grpc.max_send_message_length", -1)]
    made = (
        grpc.insecure_channel(f"127.0.0.1:{port}", options)
        if credentials is None
        else grpc.secure_channel(f"localhost:{port}", credentials, options)
    )
    with made:
        yield made
