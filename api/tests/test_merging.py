from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from inferflux_api.merging import merge


async def count(name: str, n: int, closed: list[str]) -> AsyncGenerator[str, None]:
    try:
        for i in range(n):
            await asyncio.sleep(0)
            yield f"{name}{i}"
    finally:
        closed.append(name)


async def fail_after(n: int) -> AsyncGenerator[str, None]:
    for i in range(n):
        await asyncio.sleep(0)
        yield str(i)
    raise ValueError("broken")


@pytest.mark.parametrize("sources", [1, 2, 5])
def test_everything_comes_through_in_order_per_source(sources: int) -> None:
    async def run() -> list[str]:
        closed: list[str] = []
        items = [item async for item in merge([count(c, 4, closed) for c in "abcde"[:sources]])]
        assert sorted(closed) == list("abcde"[:sources])
        return items

    items = asyncio.run(run())
    assert len(items) == 4 * sources
    for name in "abcde"[:sources]:
        assert [i for i in items if i[0] == name] == [f"{name}{i}" for i in range(4)]


@pytest.mark.parametrize("others", [0, 2])
def test_an_error_of_one_source_ends_all(others: int) -> None:
    async def run() -> None:
        closed: list[str] = []
        sources = [fail_after(1), *(count(c, 10**6, closed) for c in "ab"[:others])]
        with pytest.raises(ValueError, match="broken"):
            async for _ in merge(sources):
                pass
        assert sorted(closed) == list("ab"[:others])

    asyncio.run(run())


@pytest.mark.parametrize("sources", [1, 3])
def test_closing_closes_the_sources(sources: int) -> None:
    async def run() -> list[str]:
        closed: list[str] = []
        merged = merge([count(c, 10**6, closed) for c in "abc"[:sources]])
        await anext(merged)
        await merged.aclose()
        return closed

    assert len(asyncio.run(run())) >= 1
