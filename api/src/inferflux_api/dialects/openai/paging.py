"""Lists in pages, as OpenAI's clients walk through them."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request

from inferflux_core.errors import InvalidRequestError

__all__ = ["page"]

_MOST: Final = 10_000


def page(
    request: Request[Any, Any, Any], entries: list[dict[str, Any]], usual: int = 100
) -> dict[str, Any]:
    """The entries that a request asks for by `limit`, `after` and `order`.

    Args:
        request: with these query parameters.
        entries: each with an `id`; the newest first.
        usual: entries on a page, unless the client says otherwise.

    Raises:
        InvalidRequestError: a parameter is out of range, or `after` names nothing in the list.
    """
    query = request.query_params
    order, after, limit = query.get("order", "desc"), query.get("after"), query.get("limit")
    if order not in ("asc", "desc"):
        raise InvalidRequestError("order must be asc or desc", param="order")
    # Python reads no number of thousands of digits, and raises instead.
    if limit is not None and not (
        limit.isdecimal() and len(limit) < 9 and 1 <= int(limit) <= _MOST
    ):
        raise InvalidRequestError(f"limit must be between 1 and {_MOST}", param="limit")
    if order == "asc":
        entries = entries[::-1]
    if after is not None:
        ids = [entry["id"] for entry in entries]
        if after not in ids:
            raise InvalidRequestError("after names nothing in this list", param="after")
        entries = entries[ids.index(after) + 1 :]
    shown = entries[: usual if limit is None else int(limit)]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(shown) < len(entries),
    }
