"""The port that gRPC is spoken on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from inferflux_api.grpc.calls import Service, handlers_of, path_of
from inferflux_api.grpc.gate import Gate
from inferflux_api.grpc.health import Health
from inferflux_api.grpc.scopes import SCOPES
from inferflux_api.grpc.vllm.service import EngineService
from inferflux_api.grpc.xai.chat import ChatService
from inferflux_api.grpc.xai.embedder import EmbedderService
from inferflux_api.grpc.xai.models import ModelsService
from inferflux_api.grpc.xai.tokenizer import TokenizeService
from inferflux_api.server import Server
from inferflux_core.config.schema import TlsConfig
from inferflux_core.errors import StartupError

__all__ = ["GrpcFront", "check_scopes", "services_of"]

logger = logging.getLogger("inferflux.grpc")


class GrpcFront:
    """Everything that is served over gRPC.

    Raises:
        LookupError: an RPC names no scope; nothing is served by mistake.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        services = services_of(server)
        names = [service.descriptor.full_name for service in services]
        descriptors: list[Any] = [
            *(service.descriptor for service in services),
            health_pb2.DESCRIPTOR.services_by_name["Health"],
            reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
        ]
        check_scopes(path_of(m) for d in descriptors for m in d.methods)
        self._health = Health(server, names)
        self._grpc = grpc.aio.server(
            interceptors=[Gate(server)],
            options=[
                # Two servers that share a port would each get some of the calls.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", server.config.server.max_body_bytes),
            ],
        )
        self._grpc.add_generic_rpc_handlers([handlers_of(each, server) for each in services])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        reflection.enable_server_reflection([d.full_name for d in descriptors], self._grpc)
        self._fresh: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            StartupError: the port is taken, or a file of `tls` cannot be used.
        """
        config = self._server.config.server
        host, port = config.grpc.host or config.host, config.grpc.port
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        credentials = _credentials(config.grpc.tls if config.grpc.tls.cert else config.tls)
        try:
            if credentials is None:
                bound = self._grpc.add_insecure_port(address)
            else:
                bound = self._grpc.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise StartupError(
                f"cannot listen for gRPC on {address}",
                hint="the lines above say why: stop what uses the port, set server.grpc.port to "
                "another, or mend the files of server.grpc.tls, or server.tls",
            ) from error
        await self._grpc.start()
        self._fresh = asyncio.create_task(self._health.keep_fresh())
        secured = "" if credentials is None else " with TLS"
        logger.info("gRPC on %s:%d%s", host, bound, secured)

    async def stop(self) -> None:
        """Take no more calls, and give those that run `server.drain_timeout` seconds. Idempotent."""
        if self._fresh is not None:
            self._fresh.cancel()
        await self._health.shut_down()
        await self._grpc.stop(self._server.config.server.drain_timeout)


def services_of(server: Server) -> list[Service]:
    """What is served beside health and reflection."""
    return [
        ChatService(server),
        ModelsService(server),
        TokenizeService(server),
        EmbedderService(server),
        EngineService(server),
    ]


def check_scopes(paths: Iterable[str]) -> None:
    """See that the table of scopes has every RPC.

    Raises:
        LookupError: it has not.
    """
    if missing := sorted(set(paths) - SCOPES.keys()):
        raise LookupError(f"{missing} name no scope; add them to SCOPES")


def _credentials(tls: TlsConfig) -> grpc.ServerCredentials | None:
    if tls.cert is None or tls.key is None:
        return None
    pair = (_read("key", tls.key), _read("cert", tls.cert))
    authority = None if tls.client_ca is None else _read("client_ca", tls.client_ca)
    return grpc.ssl_server_credentials([pair], authority, authority is not None)


def _read(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise StartupError(
            f"cannot read the {name} of server.grpc.tls, or server.tls: {path}: {error.strerror or error}",
            hint="name a PEM file that the server may read",
        ) from error
