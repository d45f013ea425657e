"""What tenants get, on a clock that passes as the cost model says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from inferflux_core.engine.cost import CostModel
from inferflux_core.engine.engine import Engine
from inferflux_core.engine.kv.manager import KVCacheManager
from inferflux_core.engine.runner import ModelOutput, Work
from inferflux_core.engine.scheduler import Scheduler, SchedulerLimits
from inferflux_core.schedulers.fcfs import FCFSScheduler
from inferflux_core.testing import DeterministicRunner, make_request
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
        self.engine = Engine(self.runner, scheduler, KVCacheManager(self.runner, 1 << 22))
        self.waits: dict[int, float] = {}
        self.tokens: Counter[str] = Counter()
        self._sent: dict[int, tuple[str, float]] = {}
        self._unique = 0

    def ask(self, tenant: str, prompt: int = 200, answer: int = 200) -> int:
        self._unique += 1
        head = list(self._unique.to_bytes(2, "big"))
        request = make_request(head + [65] * (prompt - 2), max_tokens=answer, context=512)
        request.tenant = tenant
        request.cache_salt = self._unique.to_bytes(2, "big")
        self._sent[request.request_id] = (tenant, self.runner.now)
        self.engine.add_request(request)
        return request.request_id

    def step(self) -> None:
        for outputs in self.engine.step():
            for output in outputs:
                tenant, sent = self._sent[output.request_id]
                self.waits.setdefault(output.request_id, self.runner.now - sent)
                self.tokens[tenant] += output.num_tokens
        self.engine.check_integrity()

    def first_token(self, request_id: int) -> float:
        while request_id not in self.waits:
            self.step()
        return self.waits[request_id]


def flooded(house: House) -> list[float]:
    """Waits of a guest's requests while another tenant has 200 of its own."""
    for _ in range(200):
        house.ask("flood")
    for _ in range(40):
        house.step()
    waits = []
    for _ in range(5):
        waits.append(house.first_token(house.ask("guest", answer=20)))
        for _ in range(25):
            house.step()
    return waits


def test_a_flood_does_not_drown_a_guest() -> None:
    alone = House(FairConfig())
    idle = alone.first_token(alone.ask("guest"))

    fair, fcfs = flooded(House(FairConfig())), flooded(House(None))

    assert max(fair) <= 2 * idle, f"{max(fair) / idle:.2f} times the idle wait"
    assert fcfs[0] > 20 * idle, "or the flood is none"


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_tenants_are_served_by_weight(weight: float) -> None:
    house = House(FairConfig(weights={"research": weight}))
    for _ in range(60):
        house.ask("research", 100, 60)
        house.ask("other", 100, 60)

    for _ in range(500):
        house.step()

    assert house.tokens["research"] / house.tokens["other"] == pytest.approx(weight, rel=0.2)


def test_a_lone_tenant_gets_everything() -> None:
    house = House(FairConfig(weights={"other": 50}))
    for _ in range(20):
        house.ask("alone", 64, 50)

    for _ in range(60):
        house.step()

    assert house.engine.stats().num_running == 8
    assert house.engine.stats().num_preempted == 0


def test_an_idle_time_is_no_credit() -> None:
    house = House(FairConfig())
    house.ask("late", 64, 2)
    for _ in range(40):
        house.ask("early", 64, 100)
    for _ in range(300):
        house.step()
    before = house.tokens.copy()
    for _ in range(40):
        house.ask("late", 64, 100)

    for _ in range(300):
        house.step()

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
