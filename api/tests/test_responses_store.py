from __future__ import annotations

import json
from typing import Any

import pytest

from inferflux_api.dialects.openai.responses.store import (
    PreviousResponseError,
    ResponseStore,
    StoredResponse,
    find_item,
    history,
)
from inferflux_core.errors import NotFoundError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def item(name: str) -> dict[str, Any]:
    return {"id": name, "type": "message"}


def stored(name: str, tenant: str = "acme", **fields: Any) -> StoredResponse:
    body = json.dumps({"output": [item(f"{name}-said")]}).encode()
    given = json.dumps([item(f"{name}-asked")]).encode()
    items = (f"{name}-asked", f"{name}-said")
    return StoredResponse(name, tenant, body, given, items=items, **fields)


def test_a_response_is_its_tenants_alone() -> None:
    store = ResponseStore()
    store.put(stored("r"))

    assert store.get("acme", "r").id == "r"
    with pytest.raises(NotFoundError):
        store.get("other", "r")
    with pytest.raises(NotFoundError):
        store.delete("other", "r")
    assert find_item([store], "other", "r-said") is None
    with pytest.raises(PreviousResponseError):
        history([store], "other", "r")
    assert store.get("acme", "r").id == "r"


def test_what_was_deleted_is_gone_with_its_items() -> None:
    store = ResponseStore()
    store.put(stored("r"))
    store.delete("acme", "r")

    assert store.find("acme", "r") is None
    assert find_item([store], "acme", "r-said") is None
    assert store.size == 0


def test_the_longest_unused_goes_first() -> None:
    store = ResponseStore(max_responses=2)
    for name in ("a", "b"):
        store.put(stored(name))
    store.find("acme", "a")
    store.put(stored("c"))

    assert [name for name in "abc" if store.find("acme", name)] == ["a", "c"]


def test_bytes_are_bounded() -> None:
    one = stored("a").size
    store = ResponseStore(max_bytes=3 * one)
    for name in "abcdef":
        store.put(stored(name))
        assert store.size <= 3 * one
    assert len(store) == 3


def test_one_that_is_larger_than_the_store_is_not_kept() -> None:
    store = ResponseStore(max_bytes=100)
    store.put(stored("a"))
    assert (len(store), store.size) == (0, 0)


def test_what_nobody_asks_for_gets_too_old() -> None:
    clock = Clock()
    store = ResponseStore(seconds=10, clock=clock)
    store.put(stored("a"))
    store.put(stored("b"))
    clock.now = 6
    assert store.find("acme", "a")
    clock.now = 12
    assert store.find("acme", "b") is None
    assert store.find("acme", "a")


def test_storing_again_replaces() -> None:
    store = ResponseStore()
    store.put(stored("a"))
    size = store.size
    store.put(stored("a", events=b"1234"))
    assert (len(store), store.size) == (1, size + 4)


def test_a_history_has_the_oldest_turn_first_wherever_turns_are_kept() -> None:
    mine, shared = ResponseStore(), ResponseStore()
    shared.put(stored("a"))
    shared.put(stored("b", previous="a"))
    mine.put(stored("c", previous="b"))

    names = [each["id"] for each in history([mine, shared], "acme", "c")]

    assert names == ["a-asked", "a-said", "b-asked", "b-said", "c-asked", "c-said"]
    assert history([mine, shared], "acme", None) == []


def test_a_history_with_a_gap_is_refused() -> None:
    store = ResponseStore()
    store.put(stored("b", previous="a"))
    with pytest.raises(PreviousResponseError, match="'a'") as caught:
        history([store], "acme", "b")
    assert caught.value.param == "previous_response_id"


def test_an_item_is_found_by_name() -> None:
    store = ResponseStore()
    store.put(stored("a"))
    assert find_item([ResponseStore(), store], "acme", "a-asked") == item("a-asked")
    assert find_item([store], "acme", "nothing") is None
