"""The audit log over REST."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any, Final

import msgspec
from litestar import Request, get

from inferflux_api.admin.exchange import server_of
from inferflux_api.governance.audit.reading import Query, files_of, last_entries
from inferflux_core.errors import InvalidRequestError, NotFoundError

__all__ = ["ROUTES"]

_TEXTS: Final = ("event", "subject", "tenant", "model")
_MOST: Final = 1000


@get("/v1/admin/audit", opt={"scope": "audit:read"}, tags=["Administration"])
async def search(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The last records that match, oldest first."""
    path = server_of(request).config.audit.path
    if path is None:
        raise NotFoundError("this server keeps no audit log; set audit.path")
    given = request.query_params
    unknown = set(given) - {*_TEXTS, "since", "until", "limit"}
    if unknown:
        raise InvalidRequestError(f"there is no parameter '{min(unknown)}'", param=min(unknown))
    query = Query(
        **{name: given.get(name, "") for name in _TEXTS},
        since=_number(given.get("since", "0"), "since"),
        until=_number(given.get("until", "inf"), "until"),
    )
    limit = _number(given.get("limit", "100"), "limit")
    if limit not in range(1, _MOST + 1):
        raise InvalidRequestError(f"limit is a whole number from 1 to {_MOST}", param="limit")
    # One more tells whether there are others.
    found = await asyncio.to_thread(
        lambda: last_entries(files_of([Path(path)]), int(limit) + 1, query)
    )
    data = [msgspec.to_builtins(entry.record) for entry in found[-int(limit) :]]
    return {"object": "list", "data": data, "has_more": len(found) > limit}


def _number(text: str, name: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise InvalidRequestError(f"{name} is a number", param=name)
    return number


ROUTES = (search,)
