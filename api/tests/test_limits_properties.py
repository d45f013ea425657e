"""Whatever comes, goes and is cancelled: no window ever holds more than its limit, and nothing is lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from inferflux_api.governance.limits.memory import MemoryStore
from inferflux_api.governance.limits.rules import Rule
from inferflux_api.governance.limits.store import Charge, Grant

REQUESTS = Rule("requests_per_minute", 8, "tenant", "requests", 60)
TOKENS = Rule("tokens_per_minute", 100, "tenant", "tokens", 60, in_tokens=True)
DAY = Rule("tokens_per_day", 400, "tenant", "day", 86_400, in_tokens=True)
RUNNING = Rule("concurrent_requests", 3, "tenant", "running", 0)
RULES = (REQUESTS, TOKENS, DAY, RUNNING)

ARRIVALS = st.tuples(st.just("arrive"), st.integers(1, 100))
ENDINGS = st.tuples(st.sampled_from(["settle", "cancel"]), st.integers(0, 100))
WAITS = st.tuples(
    st.just("wait"), st.one_of(st.floats(57, 62), st.floats(0, 90), st.integers(0, 90_000))
)
HAPPENINGS = st.lists(st.one_of(ARRIVALS, ENDINGS, WAITS), max_size=60)


@dataclass
class Entry:
    """A request as the test remembers it; `tokens` are those that count now."""

    time: float
    tokens: int
    grant: Grant
    runs: bool = True


class World:
    """A store, and a naive record of what it admitted."""

    def __init__(self) -> None:
        self.now = 5.5
        self.store = MemoryStore(lambda: self.now)
        self.entries: list[Entry] = []

    def used(self, rule: Rule, seconds: float) -> int:
        """By admissions in so many seconds before now."""
        if not rule.seconds:
            return sum(entry.runs for entry in self.entries)
        recent = [e for e in self.entries if self.now - e.time < seconds]
        return sum(e.tokens for e in recent) if rule.in_tokens else len(recent)

    def arrive(self, tokens: int) -> None:
        charges = [Charge(rule, tokens if rule.in_tokens else 1) for rule in RULES]
        before = [(self.used(c.rule, c.rule.seconds * 61 / 60), c) for c in charges]
        grant = asyncio.run(self.store.reserve(charges))
        if grant.admitted:
            self.entries.append(Entry(self.now, tokens, grant))
        else:
            # Never without need: some limit was full, counted one slice longer than it says.
            assert any(used + charge.amount > charge.rule.limit for used, charge in before)

    def end(self, kind: str, number: int) -> None:
        running = [entry for entry in self.entries if entry.runs]
        if not running:
            return
        entry = running[number % len(running)]
        used = number % (entry.tokens + 1) if kind == "settle" else 0
        self.store.settle(entry.grant, used)
        entry.tokens, entry.runs = used, False


@settings(max_examples=300, deadline=None)
@given(HAPPENINGS)
def test_no_window_holds_more_than_its_limit(happenings: list[tuple[str, float]]) -> None:
    world = World()
    for what, figure in happenings:
        if what == "arrive":
            world.arrive(int(figure))
        elif what == "wait":
            world.now += figure
        else:
            world.end(what, int(figure))
        for rule in RULES:
            assert world.used(rule, rule.seconds) <= rule.limit

    for entry in world.entries:
        if entry.runs:
            world.store.settle(entry.grant, None)
            entry.tokens, entry.runs = 0, False
    world.now += 90_000
    grant = asyncio.run(world.store.reserve([Charge(rule, rule.limit) for rule in RULES]))
    assert grant.admitted
    world.store.settle(grant, None)
    assert world.store.size == 3  # The three windows; of what runs, nothing is left.
