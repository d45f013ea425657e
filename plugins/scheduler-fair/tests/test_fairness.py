"""What tenants get, on a clock that passes as the cost model says."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from inferflux_core.engine.cost import CostModel
from inferflux_core.engine.engine import Engine
from inferflux_core.engine.kv.manager import KVCacheManager
from inferflux_core.engine.request import Request
from inferflux_core.engine.runner import ModelOutput, Work
from inferflux_core.engine.scheduler import Scheduler, SchedulerLimits
from inferflux_core.schedulers.fcfs import FCFSScheduler
from inferflux_core.testing import DeterministicRunner, make_request
from inferflux_core.testing.checked_scheduler import CheckedScheduler
from inferflux_scheduler_fair.config import FairConfig
from inferflux_scheduler_fair.scheduler import FairScheduler

COST = CostModel(
    decode=((1, 0.010), (8, 0.020)),
    prefill=((64, 0.050), (512, 0.400)),
    copy_seconds_per_token=1e-6,
)


class Clocked(DeterministicRunner):
    """Takes as long as the cost model says, on a clock of its own."""

    now = 0.0

    def execute(self, batch: Sequence[Work]) -> Iterator[ModelOutput]:
        rows = sum(len(work.token_ids) == 1 for work in batch)
        self.now += COST.decode_seconds(rows)
        for work in batch:
            if len(work.token_ids) > 1:
                self.now += COST.prefill_seconds(len(work.token_ids))
        yield from super().execute(batch)


class House:
    def __init__(self, fair: FairConfig | None) -> None:
        self.runner = Clocked(max_num_seqs=8, max_model_len=512, prefill_quantum=64, cost=COST)
        limits = SchedulerLimits(
            max_num_seqs=8,
            max_num_batched_tokens=512,
            prefill_quantum=64,
            cost=COST,
            max_inter_token_seconds=0.1,
        )
        scheduler: Scheduler = FairScheduler(limits, fair) if fair else FCFSScheduler(limits)
        self.scheduler = CheckedScheduler(scheduler, limits)
        self.engine = Engine(self.runner, self.scheduler, KVCacheManager(self.runner, 1 << 22))
        self.requests: dict[int, Request] = {}
        self.waits: dict[int, float] = {}
        self.tokens: Counter[str] = Counter()
        self._sent: dict[int, tuple[str, float]] = {}
        self._unique = 0

    def ask(self, tenant: str, prompt: int = 200, answer: int = 200, *, priority: int = 0) -> int:
        self._unique += 1
        head = list(self._unique.to_bytes(2, "big"))
        request = make_request(head + [65] * (prompt - 2), max_tokens=answer, context=512)
        request.tenant, request.priority = tenant, priority
        request.cache_salt = self._unique.to_bytes(2, "big")
        self._sent[request.request_id] = (tenant, self.runner.now)
        self.requests[request.request_id] = request
        self.engine.add_request(request)
        return request.request_id

    def step(self) -> None:
        for outputs in self.engine.step():
            for output in outputs:
                tenant, sent = self._sent[output.request_id]
                self.waits.setdefault(output.request_id, self.runner.now - sent)
                self.tokens[tenant] += output.num_tokens
        self.engine.check_integrity()

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()

    def sent(self, request_id: int) -> float:
        return self._sent[request_id][1]

    def first_token(self, request_id: int) -> float:
        while request_id not in self.waits:
            self.step()
        return self.waits[request_id]


def flooded(fair: FairConfig | None, prompt: int = 200, answer: int = 200) -> House:
    """A tenant has 200 requests, and some of them are under way."""
    house = House(fair)
    for _ in range(200):
        house.ask("flood", prompt, answer)
    house.steps(40)
    return house


def idle_wait() -> float:
    alone = House(FairConfig())
    return alone.first_token(alone.ask("guest"))


@pytest.mark.parametrize("pause", [0, 25])
@pytest.mark.parametrize(("prompt", "answer"), [(200, 200), (450, 60), (20, 400)])
def test_a_flood_does_not_drown_a_guest(prompt: int, answer: int, pause: int) -> None:
    house = flooded(FairConfig(), prompt, answer)

    waits = []
    for _ in range(8):
        waits.append(house.first_token(house.ask("guest", answer=20)))
        house.steps(20 + pause)

    assert max(waits) <= 2 * idle_wait()


def test_without_fairness_it_does() -> None:
    house = flooded(None)
    guest = house.ask("guest")

    while house.runner.now < house.sent(guest) + 20 * idle_wait():
        house.step()

    assert guest not in house.waits


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_tenants_are_served_by_weight(weight: float) -> None:
    house = House(FairConfig(weights={"research": weight}))
    for _ in range(60):
        house.ask("research", 100, 60)
        house.ask("other", 100, 60)

    house.steps(500)

    assert house.tokens["research"] / house.tokens["other"] == pytest.approx(weight, rel=0.2)


def test_a_lone_tenant_gets_everything() -> None:
    house = House(FairConfig(weights={"other": 50}))
    for _ in range(20):
        house.ask("alone", 64, 50)

    house.steps(60)

    assert house.engine.stats().num_running == 8
    assert house.engine.stats().num_preempted == 0


def test_an_idle_time_is_no_credit() -> None:
    house = House(FairConfig())
    house.ask("late", 64, 2)
    for _ in range(40):
        house.ask("early", 64, 100)
    house.steps(300)
    before = house.tokens.copy()
    for _ in range(40):
        house.ask("late", 64, 100)

    house.steps(300)

    gained = house.tokens - before
    assert gained["late"] == pytest.approx(gained["early"], rel=0.25)


def test_nobody_starves_and_nothing_is_lost() -> None:
    house = House(FairConfig(weights={"a": 100, "b": 0.01}))
    asked = [house.ask(tenant, 70, 20) for _ in range(30) for tenant in ("a", "b", "c")]

    for _ in range(3000):
        if not house.engine.has_unfinished_requests:
            break
        house.step()

    assert set(house.waits) == set(asked)
    assert sum(house.tokens.values()) == 90 * 20
    for request in house.requests.values():
        prompt = request.token_ids[: request.num_prompt_tokens]
        assert request.output_token_ids == house.runner.continuation(prompt, 20)


def test_a_time_without_company_is_no_debt() -> None:
    house = House(FairConfig())
    house.ask("old", 64, 400)
    house.steps(450)
    for _ in range(40):
        house.ask("new", 64, 100)
    house.steps(2)
    for _ in range(40):
        house.ask("old", 64, 100)
    before = house.tokens.copy()

    house.steps(300)

    gained = house.tokens - before
    assert gained["old"] == pytest.approx(gained["new"], rel=0.25)


def test_a_small_demand_is_no_credit() -> None:
    house = House(FairConfig())
    for _ in range(60):
        house.ask("large", 64, 100)
    for _ in range(20):
        house.ask("small", 64, 15)
        house.steps(20)
    for _ in range(60):
        house.ask("small", 64, 100)
        house.ask("large", 64, 100)
    before = house.tokens.copy()

    house.steps(300)

    gained = house.tokens - before
    assert gained["small"] == pytest.approx(gained["large"], rel=0.25)


def test_a_slot_that_was_taken_is_not_taken_back() -> None:
    house = House(FairConfig(weights={"a": 1, "b": 2, "c": 5}))
    for tenant in "abc":
        for _ in range(10):
            house.ask(tenant, 64, 400)
        house.steps(20)

    before = house.engine.stats().num_preempted
    house.steps(100)

    assert before >= 7, "b and c took theirs"
    assert house.engine.stats().num_preempted == before


def test_a_better_priority_takes_a_slot_of_its_own_tenant() -> None:
    house = House(FairConfig())
    for _ in range(8):
        house.ask("other", 64, 200)
        house.ask("own", 64, 200, priority=5)
    house.steps(30)
    others = {r for r in house.requests.values() if r.tenant == "other" and r.slot is not None}
    urgent = house.ask("own", 64, 10, priority=-5)

    house.step()

    assert house.requests[urgent].slot is not None
    assert all(request.slot is not None for request in others)


def test_guests_who_left_are_forgotten() -> None:
    limits = SchedulerLimits(max_num_seqs=2, max_num_batched_tokens=64)
    scheduler = FairScheduler(limits, FairConfig())
    tracemalloc.start()
    for number in range(3000):
        guest = make_request()
        guest.tenant = f"guest {number}"
        scheduler.add_request(guest)
        scheduler.schedule()
        scheduler.finish_request(guest)
        if number == 100:
            tracemalloc.reset_peak()
            early = tracemalloc.get_traced_memory()[0]
    late = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert late < early + 100_000
