"""Starting gRPC, if the configuration asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferflux_api.server import Server
from inferflux_core.errors import StartupError

if TYPE_CHECKING:
    from inferflux_api.grpc.front import GrpcFront

__all__ = ["start_grpc"]


async def start_grpc(server: Server) -> GrpcFront | None:
    """Listen for gRPC; nothing is imported for it unless it is wanted.

    Raises:
        StartupError: its packages are missing, the port is taken, or a file of `tls` cannot be used.
    """
    if server.config.server.grpc.port is None:
        return None
    try:
        from inferflux_api.grpc.front import GrpcFront
    except ImportError as error:
        raise StartupError(
            f"server.grpc.port is set and the packages for gRPC cannot be imported: {error}",
            hint="pip install 'inferflux-api[grpc]', or remove server.grpc.port",
        ) from error
    front = GrpcFront(server)
    await front.start()
    return front
