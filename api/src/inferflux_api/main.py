"""`inferfluxd`: start a server from a configuration."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from inferflux_api.app import create_app
from inferflux_api.governance.policy.opening import Opened, open_policy_store
from inferflux_api.governance.policy.store import NEXT_PASSPHRASE
from inferflux_api.grpc.start import start_grpc
from inferflux_api.http.protocol import limited_protocol
from inferflux_api.http.tls import Certificates, open_certificates
from inferflux_api.observability.logging import configure_logging
from inferflux_api.server import Server
from inferflux_core.config import load_config
from inferflux_core.config.schema import ServerConfig
from inferflux_core.errors import StartupError

if TYPE_CHECKING:
    from inferflux_api.grpc.front import GrpcFront

__all__ = ["main"]

logger = logging.getLogger("inferflux.server")

_EXAMPLES = """examples:
  inferfluxd --config config/server.yaml
  inferfluxd --config config/server.yaml --port 9000
  inferfluxd -o model.path=model.gguf -o runtime.backend=cpu
  INFERFLUX_MODEL_PATH=model.gguf inferfluxd
"""


class _UvicornServer(uvicorn.Server):
    """Uvicorn, but handshakes have a limit.

    And a signal ends in exit status 0 once everything has been served, over gRPC too.
    """

    def __init__(
        self, config: uvicorn.Config, beside: GrpcFront | None, handshake_timeout: float
    ) -> None:
        super().__init__(config)
        self._beside = beside
        self._handshake_timeout = handshake_timeout

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; without this method, a handshake may take asyncio's minute."""
        config = self.config
        arguments: dict[str, Any] = {
            "config": config,
            "server_state": self.server_state,
            "app_state": self.lifespan.state,
        }
        listen = partial(
            asyncio.get_running_loop().create_server,
            partial(config.http_protocol_class, **arguments),
            ssl=config.ssl,
            ssl_handshake_timeout=(self._handshake_timeout or None) if config.ssl else None,
            backlog=config.backlog,
        )
        self.servers = [await listen(sock=each) for each in sockets or []]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain HTTP and gRPC at the same time."""
        beside = [] if self._beside is None else [self._beside.stop()]
        await asyncio.gather(super().shutdown(sockets), *beside)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    arguments = _parse(argv)
    try:
        overrides = list(arguments.option)
        overrides += [f"server.host={arguments.host}"] if arguments.host is not None else []
        overrides += [f"server.port={arguments.port}"] if arguments.port is not None else []
        config = load_config(arguments.config, os.environ, overrides)
        configure_logging(config.logging)
        with _listen(config.server) as listener:
            opened = open_policy_store(config, os.environ)
            _tell(opened)
            server = Server(config, opened.store)
            certificates = open_certificates(config.server.tls)
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(_serve(server, listener, certificates))
    except StartupError as error:
        sys.stderr.write(f"inferfluxd: {error}\n")
        sys.exit(1)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="inferfluxd",
        description="Serve language models over HTTP.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration")
    parser.add_argument("--host", help="address to listen on (server.host)")
    parser.add_argument("--port", type=int, help="port to listen on (server.port)")
    parser.add_argument(
        "-o",
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set one key of the configuration, e.g. runtime.threads=2; repeatable",
    )
    parser.add_argument("--version", action="version", version=version("inferflux-api"))
    return parser.parse_args(argv)


def _tell(opened: Opened) -> None:
    """Show a key that was made for the first start, on the terminal and not in the log."""
    if opened.first_key is None or opened.store is None:
        return
    sys.stderr.write(
        f"inferfluxd: nobody could administer this server, so {opened.store.label} was created with a "
        f"key that may do everything. It is shown only now:\n\n    {opened.first_key}\n\n"
        "  Use it as INFERCTL_API_KEY; `inferctl admin api-keys --add NAME` makes others.\n"
    )
    if not opened.store.sealed:
        sys.stderr.write(
            f"  To encrypt the store, see {NEXT_PASSPHRASE} in docs/policy-store.md.\n"
        )


def _listen(settings: ServerConfig) -> socket.socket:
    """Take the port before any model is loaded for nothing."""
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":
            # Whoever takes nothing of an answer for so long has gone; connections inherit it.
            limit = int(min(settings.receive_timeout * 1000, 2**31 - 1))
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StartupError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="stop what uses the port, or choose another with --port or server.port",
        ) from error
    listener.set_inheritable(False)
    return listener


async def _serve(
    server: Server, listener: socket.socket, certificates: Certificates | None
) -> None:
    """Answer probes at once, load the models, serve until told to stop, drain.

    Raises:
        StartupError: a model cannot be loaded, or the port for gRPC is taken.
    """
    settings = server.config.server
    beside = await start_grpc(server)
    uvicorn_server = _UvicornServer(
        uvicorn.Config(
            create_app(server),
            http=limited_protocol(settings.receive_timeout),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(settings.drain_timeout) or 1,
            backlog=1024,
            lifespan="off",
            ssl_context_factory=None if certificates is None else lambda *_: certificates.context,
        ),
        beside,
        settings.receive_timeout,
    )
    serving = asyncio.create_task(uvicorn_server.serve(sockets=[listener]))
    loading = asyncio.create_task(server.start())
    watching = None if certificates is None else asyncio.create_task(certificates.watch())
    try:
        await asyncio.wait((serving, loading), return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            await loading
            _say_where(listener, encrypted=certificates is not None)
        await serving
    finally:
        loading.cancel()
        if watching is not None:
            watching.cancel()
        uvicorn_server.should_exit = True
        await asyncio.gather(serving, loading, return_exceptions=True)
        await server.stop()


def _say_where(listener: socket.socket, *, encrypted: bool) -> None:
    host, port = listener.getsockname()[:2]
    logger.info("serving on %s://%s:%d", "https" if encrypted else "http", host, port)
    if not (encrypted or ip_address(host).is_loopback):
        logger.warning(
            "keys and texts cross the network in the clear: set server.tls, or let only a proxy that "
            "encrypts reach this port"
        )


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop  # type: ignore[return-value]


if __name__ == "__main__":
    main()
