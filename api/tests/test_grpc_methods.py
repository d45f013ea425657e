"""Every RPC has a method and a scope, and every error a status."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import grpc
import pytest

from inferflux_api.grpc.calls import path_of
from inferflux_api.grpc.errors import abort, status_of
from inferflux_api.grpc.front import check_scopes, services_of
from inferflux_api.grpc.scopes import SCOPES
from inferflux_core.errors import (
    AuthenticationError,
    EngineError,
    InferFluxError,
    InvalidRequestError,
    ModelInUseError,
    ModelNotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    QueueFullError,
    RateLimitedError,
)

SERVER: Any = SimpleNamespace()
LIBRARIES = ("/grpc.health.", "/grpc.reflection.")


class Context:
    """Of an RPC that is ended."""

    async def abort(self, *ending: Any) -> None:
        self.ending = ending


def test_every_method_is_written_and_no_other() -> None:
    for service in services_of(SERVER):
        assert set(service.methods) == set(service.descriptor.methods_by_name)


def test_the_table_of_scopes_has_what_is_served_and_nothing_else() -> None:
    served = {path_of(m) for s in services_of(SERVER) for m in s.descriptor.methods}
    assert served == {path for path in SCOPES if not path.startswith(LIBRARIES)}


def test_a_method_without_a_scope_is_not_served() -> None:
    check_scopes(SCOPES)
    with pytest.raises(LookupError, match="Chat/New"):
        check_scopes([*SCOPES, "/xai_api.Chat/New"])


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (InvalidRequestError, grpc.StatusCode.INVALID_ARGUMENT),
        (AuthenticationError, grpc.StatusCode.UNAUTHENTICATED),
        (PermissionDeniedError, grpc.StatusCode.PERMISSION_DENIED),
        (ModelNotFoundError, grpc.StatusCode.NOT_FOUND),
        (ModelInUseError, grpc.StatusCode.FAILED_PRECONDITION),
        (PayloadTooLargeError, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (RateLimitedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (QueueFullError, grpc.StatusCode.UNAVAILABLE),
        (EngineError, grpc.StatusCode.INTERNAL),
        (InferFluxError, grpc.StatusCode.INTERNAL),
    ],
)
def test_errors_have_a_status(kind: type[InferFluxError], status: grpc.StatusCode) -> None:
    assert status_of(kind("x")) is status


def ending_of(error: InferFluxError) -> tuple[Any, ...]:
    context: Any = Context()
    asyncio.run(abort(context, error))
    ending: tuple[Any, ...] = context.ending
    return ending


@pytest.mark.parametrize("character", ["x", "é", "\U0001d535"])
def test_long_messages_fit_into_metadata(character: str) -> None:
    _, details, _ = ending_of(InvalidRequestError(character * 5000))
    assert details.endswith(character + "...")
    assert len(quote(details)) < 7000


def test_when_to_try_again_is_told_to_retry_policies() -> None:
    *_, trailing = ending_of(RateLimitedError("slow down", retry_after=1.5))
    assert trailing == (("error-code", "rate_limit_exceeded"), ("grpc-retry-pushback-ms", "1500"))
