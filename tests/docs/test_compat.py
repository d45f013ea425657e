"""docs/compat.md and the pages below it name what the server has: every endpoint, every parameter."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from litestar.handlers.base import BaseRouteHandler
from litestar.routes import HTTPRoute
from msgspec import inspect
from support.compat import all_parameters, read_page

from inferflux_api.app import create_app
from inferflux_api.dialects.lmstudio.sdk.calls import CALLS
from inferflux_api.dialects.lmstudio.sdk.channels import CHANNELS
from inferflux_api.dialects.openai.responses.lanes import ClientEvent
from inferflux_api.dialects.registry import DIALECTS
from inferflux_api.governance.authentication import PUBLIC
from inferflux_api.grpc.calls import path_of
from inferflux_api.grpc.front import services_of
from inferflux_api.grpc.scopes import SCOPES
from inferflux_api.server import Server
from inferflux_core.auth import SCOPES as CONFIGURABLE
from inferflux_core.config.schema import Config

SERVER = Server(Config())
PAGES = {
    "health": read_page("compat"),
    **{dialect.name: read_page(f"compat/{dialect.name}") for dialect in DIALECTS},
    "grpc": read_page("compat/grpc"),
    "admin": read_page("admin"),
}
PARAMETERS = all_parameters(list(PAGES.values()))


def handlers() -> Iterator[tuple[str, BaseRouteHandler]]:
    """Every handler of the application, by `METHOD /path`."""
    with warnings.catch_warnings():
        # Litestar's, about how its own pages are switched off.
        warnings.simplefilter("ignore", DeprecationWarning)
        app = create_app(SERVER)
    for route in app.routes:
        own = route.route_handlers if isinstance(route, HTTPRoute) else [route.route_handler]
        for handler in own:
            if handler.fn.__module__.startswith("inferflux"):
                for method in getattr(handler, "http_methods", ["WS"]):
                    yield f"{method} {route.path_format}", handler


HANDLERS = dict(handlers())
RPCS = {path_of(m): m.input_type for s in services_of(SERVER) for m in s.descriptor.methods}


def page_of(handler: BaseRouteHandler) -> str:
    """The dialect whose folder a handler lies in."""
    parts = handler.fn.__module__.split(".")
    return parts[2] if parts[1] == "dialects" else parts[1]


def served() -> Iterator[tuple[str, str, str]]:
    """Page, name and scope of everything that can be called."""
    for name, handler in HANDLERS.items():
        yield page_of(handler), name, handler.opt["scope"]
    for table in (CALLS, CHANNELS):
        for namespace, entries in table.items():
            for name, (scope, _) in entries.items():
                yield "lmstudio", f"{namespace}.{name}", scope
    for path, scope in SCOPES.items():
        yield "grpc", path.lstrip("/"), scope


SERVED = {(page, name): scope for page, name, scope in served()}


def of_struct(kind: inspect.Type, path: str = "") -> Iterator[str]:
    """Paths of the fields that a type has: `a`, `a.b`, `a[].b`."""
    if isinstance(kind, inspect.Metadata):
        yield from of_struct(kind.type, path)
    elif isinstance(kind, inspect.UnionType):
        for choice in kind.types:
            yield from of_struct(choice, path)
    elif isinstance(kind, inspect.ListType):
        yield from of_struct(kind.item_type, f"{path}[]")
    elif isinstance(kind, inspect.StructType):
        for each in kind.fields:
            name = f"{path}.{each.encode_name}".lstrip(".")
            yield name
            yield from of_struct(each.type, name)


def of_message(message: Descriptor, path: str = "") -> Iterator[str]:
    """The same for a message of gRPC; the two fields of a map's entries are none of a request."""
    for each in message.fields:
        name = f"{path}.{each.name}".lstrip(".")
        yield name
        below: Descriptor | None = each.message_type
        if below is not None and not below.GetOptions().map_entry:
            yield from of_message(below, f"{name}[]" if each.is_repeated else name)


def bodies() -> Iterator[tuple[str, frozenset[str]]]:
    """Endpoints that take parameters in their body, and the parameters."""
    structs: dict[str, Any] = {n: h.opt["body"] for n, h in HANDLERS.items() if "body" in h.opt}
    structs["WS /v1/responses"] = ClientEvent
    for name, struct in structs.items():
        yield name, frozenset(of_struct(inspect.type_info(struct)))
    for path, message in RPCS.items():
        if fields := frozenset(of_message(message)):
            yield path.lstrip("/"), fields


BODIES = dict(bodies())


def is_known(name: str, fields: frozenset[str]) -> bool:
    """Whether the server reads a parameter, or hands on the object that it lies in."""
    if name in fields:
        return True
    around = [field for field in fields if name.startswith((f"{field}.", f"{field}[]"))]
    deepest = max(around, key=len, default=None)
    return deepest is not None and not any(
        f.startswith((f"{deepest}.", f"{deepest}[]")) for f in fields
    )


def test_something_was_found() -> None:
    assert SERVED["openai", "POST /v1/chat/completions"] == "generate"
    assert SERVED["grpc", "xai_api.Chat/GetCompletion"] == "generate"
    assert {"messages[].role", "stream_options.include_usage"} <= BODIES[
        "POST /v1/chat/completions"
    ]
    assert "sampling_params.top_k" in BODIES["vllm.grpc.engine.VllmEngine/Generate"]


@pytest.mark.parametrize(("page", "name"), SERVED)
def test_an_endpoint_is_listed_with_its_scope(page: str, name: str) -> None:
    row = PAGES[page].endpoints.get(name)
    assert row is not None, f"{PAGES[page].path} has no row for `{name}`"
    assert row.scope == SERVED[page, name]


@pytest.mark.parametrize("page", PAGES)
def test_no_other_endpoints_are_listed_as_served(page: str) -> None:
    everywhere = {name: scope for (_, name), scope in SERVED.items()}
    listed = {name: row for name, row in PAGES[page].endpoints.items() if row.scope is not None}
    assert {name: row.scope for name, row in listed.items()}.items() <= everywhere.items()
    absent = PAGES[page].endpoints.keys() - listed.keys()
    assert absent.isdisjoint(everywhere)
    assert all(PAGES[page].endpoints[name].status == "refused" for name in absent)


@pytest.mark.parametrize("name", BODIES)
def test_parameters_are_listed(name: str) -> None:
    assert sorted(BODIES[name] - PARAMETERS.get(name, {}).keys()) == []


@pytest.mark.parametrize("name", BODIES)
def test_what_the_server_does_not_read_is_listed_as_ignored(name: str) -> None:
    unknown = {n: s for n, s in PARAMETERS[name].items() if not is_known(n, BODIES[name])}
    assert {n: s for n, s in unknown.items() if s != "ignored"} == {}


def test_parameters_belong_to_endpoints_that_exist() -> None:
    assert PARAMETERS.keys() <= {name for _, name in SERVED}


def test_scopes_are_those_of_keys() -> None:
    scopes = {row.scope for page in PAGES.values() for row in page.endpoints.values()}
    assert scopes == {None, PUBLIC, *CONFIGURABLE - {"admin"}}
