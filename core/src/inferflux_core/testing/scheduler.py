# ruff: noqa: D102 - a test's name says what it shows
"""What every scheduler must do."""

from __future__ import annotations

import random
from collections import Counter
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from inferflux_core.engine.cost import CostModel
from inferflux_core.engine.engine import Engine
from inferflux_core.engine.kv.manager import KVCacheManager
from inferflux_core.engine.request import Request
from inferflux_core.engine.scheduler import SchedulerLimits
from inferflux_core.engine.speculation.ngram import NgramDrafter
from inferflux_core.engine.speculation.speculator import Speculator
from inferflux_core.plugins import SCHEDULER
from inferflux_core.specs import SchedulerSpec
from inferflux_core.testing.checked_scheduler import CheckedScheduler
from inferflux_core.testing.contract import PluginContract
from inferflux_core.testing.deterministic import DeterministicRunner
from inferflux_core.testing.requests import make_request

__all__ = ["SchedulerContract"]


_MANY_STEPS = 20_000
_COST = CostModel(decode=((1, 0.01), (4, 0.02)), prefill=((16, 0.01), (64, 0.03)))


class House:
    """A real engine around the scheduler under test, whose plans and counts are checked."""

    def __init__(
        self,
        spec: SchedulerSpec,
        seqs: int,
        budget: int,
        quantum: int,
        cache: int = 0,
        patience: float | None = None,
    ) -> None:
        cost = None if patience is None else _COST
        self.runner = DeterministicRunner(seqs, prefill_quantum=quantum, cost=cost)
        limits = SchedulerLimits(
            max_num_seqs=seqs,
            max_num_batched_tokens=max(budget, seqs + quantum),
            prefill_quantum=quantum,
            cost=cost,
            max_inter_token_seconds=patience,
        )
        self.scheduler = CheckedScheduler(spec.factory(limits, spec.config_type()), limits)
        speculator = Speculator([NgramDrafter()], self.runner.capabilities, max_draft_tokens=4)
        kv = KVCacheManager(self.runner, cache)
        self.engine = Engine(self.runner, self.scheduler, kv, speculator)
        self.requests: dict[int, Request] = {}
        self.finished: Counter[int] = Counter()
        self._steps = 0

    def add(
        self, prompt_length: int, max_tokens: int, *, tenant: str = "", priority: int = 0
    ) -> int:
        """Queue a request; returns its id."""
        # Prompts that begin alike, so that a prefix cache has something to share.
        request = make_request([*b"x" * (prompt_length - 1), prompt_length], max_tokens=max_tokens)
        request.tenant, request.priority = tenant, priority
        self.requests[request.request_id] = request
        self.engine.add_request(request)
        return request.request_id

    def step(self) -> None:
        """Advance every request that the scheduler chooses."""
        self._steps += 1
        assert self._steps < _MANY_STEPS, "requests do not end"
        for outputs in self.engine.step():
            self.finished.update(o.request_id for o in outputs if o.finish_reason is not None)
        self.engine.check_integrity()

    def run(self) -> None:
        """Step until nothing is left; a step that computes nothing fails."""
        while self.engine.has_unfinished_requests:
            self.step()

    def counts(self) -> tuple[int, int]:
        """How many wait and run."""
        return self.scheduler.num_waiting, self.scheduler.num_running


class SchedulerContract(PluginContract):
    """The tests of a scheduler, driven by the real engine and a model that is a hash.

    Example:
        class TestLifo(SchedulerContract):
            plugin_name = "lifo"
    """

    kind = SCHEDULER

    def house(
        self,
        seqs: int,
        budget: int,
        quantum: int = 1,
        cache: int = 0,
        patience: float | None = None,
    ) -> House:
        """A new engine with a scheduler of its own."""
        return House(cast("SchedulerSpec", self.spec()), seqs, budget, quantum, cache, patience)

    def test_without_requests_there_is_nothing_to_plan(self) -> None:
        house = self.house(2, 32)
        assert house.scheduler.schedule().scheduled == []
        assert house.counts() == (0, 0)

    def test_every_request_ends_once_with_the_tokens_it_would_get_alone(self) -> None:
        @settings(max_examples=40, deadline=None)
        @given(
            seed=st.integers(0, 2**32),
            seqs=st.integers(1, 5),
            quantum=st.sampled_from([1, 4, 16]),
            cache=st.sampled_from([0, 1 << 20]),
            patience=st.sampled_from([None, 0.001, 0.03]),
        )
        def check(seed: int, seqs: int, quantum: int, cache: int, patience: float | None) -> None:
            rng = random.Random(seed)  # noqa: S311 - not cryptography
            house = self.house(seqs, rng.randint(1, 80), quantum, cache, patience)
            self._check_chaos(rng, house)

        check()

    def _check_chaos(self, rng: random.Random, house: House) -> None:
        """Requests of all priorities come at random, and some are aborted, waiting or running."""
        aborted: set[int] = set()
        arrivals = rng.randint(1, 20)
        while arrivals or house.engine.has_unfinished_requests:
            if arrivals and rng.random() < 0.5:
                house.add(
                    rng.randint(1, 150),
                    rng.randint(1, 20),
                    tenant=rng.choice("abc"),
                    priority=rng.choice((0, 0, 0, 5, -5, -5)),
                )
                arrivals -= 1
            if house.requests and rng.random() < 0.05:
                victim = rng.choice(list(house.requests))
                if not house.finished[victim]:
                    house.engine.abort_request(victim)
                    aborted.add(victim)
            house.step()
        assert house.counts() == (0, 0)
        assert dict(house.finished) == dict.fromkeys(set(house.requests) - aborted, 1)
        for request in house.requests.values():
            output = request.output_token_ids
            prompt = request.token_ids[: request.num_prompt_tokens]
            assert output == house.runner.continuation(prompt, len(output))
            assert request.request_id in aborted or request.num_pending_tokens == 1

    def test_more_requests_than_slots_all_end(self) -> None:
        house = self.house(3, 16)
        ids = [house.add(10 + n, 5) for n in range(12)]
        house.run()
        assert house.finished == Counter(ids)

    def test_a_prompt_longer_than_the_budget_is_cut(self) -> None:
        house = self.house(2, 20, quantum=8)
        request_id = house.add(200, 3)
        house.run()
        assert house.finished[request_id] == 1

    def test_aborting_one_that_waits(self) -> None:
        house = self.house(1, 32)
        for _ in range(2):
            house.add(4, 50)
        house.step()
        assert house.counts() == (1, 1)
        waiting = self._waiting(house)
        house.engine.abort_request(waiting)
        assert house.counts() == (0, 1)
        house.run()
        assert waiting not in house.finished

    def test_aborting_one_that_runs_makes_room(self) -> None:
        house = self.house(1, 32)
        ids = [house.add(4, 50) for _ in range(2)]
        house.step()
        waiting = self._waiting(house)
        (running,) = set(ids) - {waiting}
        house.engine.abort_request(running)
        assert house.counts() == (1, 0)
        house.run()
        assert house.finished == Counter([waiting])

    def test_who_runs_is_not_starved_by_newcomers(self) -> None:
        house = self.house(4, 24, quantum=8)
        first = house.add(8, 20)
        house.step()
        for _ in range(200):
            house.add(40, 2)
            house.step()
            if house.finished[first]:
                break
        assert house.finished[first] == 1

    def _waiting(self, house: House) -> int:
        """The only request without a slot."""
        (waiting,) = (i for i, request in house.requests.items() if request.slot is None)
        return waiting
