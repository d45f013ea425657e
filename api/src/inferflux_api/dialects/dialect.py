"""What a dialect is to the application."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from litestar import Response
from litestar.handlers.base import BaseRouteHandler

from inferflux_core.errors import InferFluxError

__all__ = ["Dialect"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """The API of a peer: its routes, and how it says that something went wrong.

    Attributes:
        name: of the peer.
        routes: handlers; each names its scope in `opt`.
        prefixes: of paths whose errors have this dialect's shape; the longest that fits decides.
        respond_error: the response for an error before anything was sent.
        header: that only clients of this peer send; their errors have its shape on every path.
        state: what handlers share for the life of an application, by name; made anew for each.
    """

    name: str
    routes: Sequence[BaseRouteHandler]
    prefixes: tuple[str, ...]
    respond_error: Callable[[InferFluxError], Response[bytes]]
    header: str | None = None
    state: dict[str, Callable[[], Any]] = field(default_factory=dict)
