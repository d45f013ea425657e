"""The description of the API, completed with the bodies that handlers decode themselves."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Litestar

__all__ = ["describe"]

_REFERENCE = "#/components/schemas/{name}"


def describe(app: Litestar) -> dict[str, Any]:
    """The OpenAPI document. Handlers name the type of their JSON body in `opt["body"]`."""
    document = app.openapi_schema.to_schema()
    bodies = {
        (route.path_format, method.lower()): handler.opt["body"]
        for route in app.routes
        for handler in getattr(route, "route_handlers", [])
        if "body" in handler.opt
        for method in handler.http_methods
    }
    if not bodies:
        return document
    schemas, components = msgspec.json.schema_components(bodies.values(), ref_template=_REFERENCE)
    document.setdefault("components", {}).setdefault("schemas", {}).update(components)
    for (path, method), schema in zip(bodies, schemas, strict=True):
        document["paths"][path][method]["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return document
