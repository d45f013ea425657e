"""The KV cache under everything that can happen to it, in any order."""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from inferflux_core.engine.cost import CostModel
from inferflux_core.engine.engine import Engine
from inferflux_core.engine.kv.blocks import block_names
from inferflux_core.engine.kv.disk_tier import DiskTier
from inferflux_core.engine.kv.manager import KVCacheManager
from inferflux_core.engine.request import Request
from inferflux_core.engine.scheduler import SchedulerLimits, SchedulerOutput
from inferflux_core.schedulers.fcfs import FCFSScheduler
from inferflux_core.testing import DeterministicRunner, make_request

CONTEXT = 512
BLOCK_BYTES = 64 * 8


class Preempting(FCFSScheduler):
    """Preempts whom it is told to."""

    def __init__(self, limits: SchedulerLimits) -> None:
        super().__init__(limits)
        self.victims = 0

    def schedule(self) -> SchedulerOutput:
        preempted = []
        while self.victims and self._running:
            _, victim = self._running.popitem()
            self._waiting.push(victim)
            preempted.append(victim)
            self.victims -= 1
        self.victims = 0
        output = super().schedule()
        return SchedulerOutput(output.scheduled, preempted + output.preempted)


class House:
    """An engine over a folder."""

    def __init__(
        self,
        folder: Path,
        capacity: int = 40 * BLOCK_BYTES,
        cost: CostModel | None = None,
        disk_blocks: int = 100,
        shares: bool = False,
    ) -> None:
        self.runner = DeterministicRunner(
            max_num_seqs=3,
            max_model_len=CONTEXT,
            prefill_quantum=16,
            cost=cost,
            shares_prefixes=shares,
        )
        limits = SchedulerLimits(max_num_seqs=3, max_num_batched_tokens=128, prefill_quantum=16)
        self.scheduler = Preempting(limits)
        self.disk = DiskTier(folder, "deterministic", disk_blocks * BLOCK_BYTES)
        self.kv = KVCacheManager(self.runner, capacity, self.disk)
        self.engine = Engine(self.runner, self.scheduler, self.kv)
        self.live: dict[int, tuple[Request, list[int]]] = {}
        self.cached: dict[int, int] = {}

    def add(
        self,
        prompt: list[int],
        max_tokens: int = 4,
        salt: bytes = b"",
        priority: int = 0,
        **params: Any,
    ) -> Request:
        request = make_request(
            prompt, max_tokens=max_tokens, context=CONTEXT, cache_salt=salt, **params
        )
        request.priority = priority
        self.live[request.request_id] = (request, prompt)
        self.engine.add_request(request)
        return request

    def step(self) -> None:
        for outputs in self.engine.step():
            for output in outputs:
                if output.num_cached_tokens is not None:
                    self.cached[output.request_id] = output.num_cached_tokens
                if output.finish_reason is not None:
                    request, prompt = self.live.pop(output.request_id)
                    answer = request.token_ids[len(prompt) :]
                    assert output.finish_reason == "length"
                    assert answer == self.runner.continuation(prompt, len(answer))
                    assert len(request.token_ids) == request.max_total_tokens
        self.engine.check_integrity()

    def run(self) -> None:
        for _ in range(2000):
            if not self.engine.has_unfinished_requests:
                break
            self.step()
        assert not self.live


class KVMachine(RuleBasedStateMachine):
    """Arrivals, aborts, preemptions, restarts and damaged files."""

    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())

    @initialize(
        capacity=st.sampled_from([2, 10, 200]),
        disk_blocks=st.sampled_from([5, 100]),
        shares=st.booleans(),
    )
    def start(self, capacity: int, disk_blocks: int, shares: bool) -> None:
        self.capacity = capacity * BLOCK_BYTES
        self.disk_blocks = disk_blocks
        self.shares = shares
        self.open()

    def open(self) -> None:
        self.house = House(
            self.folder, self.capacity, disk_blocks=self.disk_blocks, shares=self.shares
        )

    @rule(
        target=requests,
        topic=st.integers(0, 2),
        shared=st.integers(0, 300),
        own=st.integers(1, 90),
        max_tokens=st.integers(1, 70),
        salt=st.sampled_from([b"", b"tenant"]),
        copies=st.integers(1, 3),
        priority=st.integers(-1, 1),
    )
    def arrive(
        self,
        topic: int,
        shared: int,
        own: int,
        max_tokens: int,
        salt: bytes,
        copies: int,
        priority: int,
    ) -> Request:
        words = random.Random(topic).choices(range(256), k=300)
        prompt = words[:shared] + [(own + i) % 256 for i in range(own)]
        return [self.house.add(prompt, max_tokens, salt, priority) for _ in range(copies)][-1]

    @rule(times=st.integers(1, 12))
    def steps(self, times: int) -> None:
        for _ in range(times):
            self.house.step()

    @rule(request=consumes(requests))
    def abort(self, request: Request) -> None:
        self.house.live.pop(request.request_id, None)
        self.house.engine.abort_request(request.request_id)

    @rule(victims=st.integers(1, 3))
    def preempt(self, victims: int) -> None:
        self.house.scheduler.victims = victims
        self.house.step()

    @rule()
    def restart(self) -> None:
        self.house.engine.close()
        self.open()

    @rule(seed=st.integers(0, 1000), how=st.sampled_from(["cut", "flip", "swap", "remove"]))
    def damage(self, seed: int, how: str) -> None:
        chance = random.Random(seed)
        files = sorted(self.folder.glob("*/*.kv"))
        # The engine may remove files meanwhile, and those that were damaged before may be empty.
        with contextlib.suppress(FileNotFoundError, IndexError):
            file = chance.choice(files)
            data = bytearray(file.read_bytes())
            if how == "cut":
                file.write_bytes(data[: len(data) * seed // 1000])
            elif how == "flip":
                data[int(chance.random() * len(data))] ^= 1 << chance.randrange(8)
                file.write_bytes(data)
            elif how == "swap":
                file.write_bytes(chance.choice(files).read_bytes())
            else:
                file.unlink()

    @invariant()
    def sound(self) -> None:
        if hasattr(self, "house"):
            self.house.engine.check_integrity()

    def teardown(self) -> None:
        if hasattr(self, "house"):
            self.house.run()
            assert self.house.kv._sequences == {}
            assert self.house.kv._residents == {}
            self.house.engine.close()
        shutil.rmtree(self.folder)


TestKVMachine = KVMachine.TestCase
TestKVMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def prompt(length: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(256), k=length)


def test_a_conversation_goes_on_after_a_restart(tmp_path: Path) -> None:
    first = House(tmp_path)
    request = first.add(prompt(300), 20)
    first.run()
    first.engine.close()
    second = House(tmp_path)

    follow_up = second.add([*request.token_ids, 1, 2, 3], 4)
    second.run()

    # 320 tokens were computed but the last; that makes four blocks, and a part that is not kept.
    assert second.cached[follow_up.request_id] == 256
    assert second.runner.num_computed_tokens == 323 - 256 + 3
    assert second.disk.hits == 4
    second.engine.close()


def test_requests_wait_for_the_disk_once(tmp_path: Path) -> None:
    first = House(tmp_path)
    first.add(prompt(200), 1)
    first.run()
    first.engine.close()
    second = House(tmp_path)

    for tail in range(3):
        second.add([*prompt(200), 5, tail], 2)
    second.run()

    assert second.disk.hits == 3
    assert sorted(second.cached.values()) == [192, 192, 192]
    second.engine.close()


@pytest.mark.parametrize("length", [40, 64, 65, 150])
@pytest.mark.parametrize("max_tokens", [1, 3])
def test_identical_prompts_share_all_but_the_last_token(
    tmp_path: Path, length: int, max_tokens: int
) -> None:
    house = House(tmp_path)

    for _ in range(3):
        house.add(prompt(length), max_tokens)
    house.run()

    assert sorted(house.cached.values()) == [0, length - 1, length - 1]
    house.engine.close()


def test_what_another_still_has_is_shared_instead_of_copied(tmp_path: Path) -> None:
    house = House(tmp_path, shares=True)
    leader = house.add(prompt(150), 30)
    follower = house.add([*prompt(140), 5, 6], 4)
    foreign = house.add(prompt(150), 4, b"another tenant")
    house.run()

    assert house.cached[follower.request_id] == 140
    assert house.cached[foreign.request_id] == 0
    assert house.runner.num_shared_tokens == 140

    # The leader has left: its blocks are copied.
    assert leader.slot is None
    house.add(prompt(140), 1)
    house.run()
    assert house.runner.num_shared_tokens == 140
    house.engine.close()


def test_what_another_is_only_about_to_compute_is_copied(tmp_path: Path) -> None:
    """Whoever wants log-probabilities of a prompt computes it himself, though it is kept."""
    house = House(tmp_path, shares=True)
    house.add(prompt(100), 1)
    house.run()
    house.add(prompt(66), 8, prompt_logprobs=0)

    house.add([*prompt(64), 1, 2], 2)
    house.step()

    assert [r.num_cached_tokens for r, _ in house.live.values()] == [0, 64]
    assert house.runner.num_shared_tokens == 0
    house.add([*prompt(64), 3, 4], 2)
    house.run()
    assert house.runner.num_shared_tokens == 64
    house.engine.close()


def test_identical_prompts_share_what_follows_blocks_that_are_kept(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.add(prompt(128), 1)
    house.run()

    for _ in range(3):
        house.add(prompt(190), 1)
    house.run()

    assert sorted(house.cached.values()) == [0, 128, 189, 189]
    house.engine.close()


def test_few_tokens_are_not_waited_for(tmp_path: Path) -> None:
    house = House(tmp_path)

    for _ in range(3):
        house.add(prompt(10), 1)

    assert house.kv.num_parked == 0
    house.run()
    house.engine.close()


def test_what_two_prompts_share_is_joined_with_what_is_on_disk(tmp_path: Path) -> None:
    first = House(tmp_path)
    first.add(prompt(300), 1)
    first.run()
    first.engine.close()
    for name in block_names(prompt(300), b"")[:2]:
        next(tmp_path.glob(f"*/{name.hex()}.kv")).unlink()
    second = House(tmp_path)

    second.add([*prompt(140), *prompt(40, seed=1)], 1)
    follower = second.add(prompt(300), 4)
    second.run()

    assert second.cached[follower.request_id] == 256
    assert second.disk.hits == 2
    second.engine.close()


def test_tenants_share_nothing(tmp_path: Path) -> None:
    house = House(tmp_path)

    house.add(prompt(150), 1, b"a")
    house.add(prompt(150), 1, b"b")
    house.run()
    house.add(prompt(150), 1, b"c")
    house.run()

    assert set(house.cached.values()) == {0}
    house.engine.close()


@pytest.mark.parametrize(
    ("copy_seconds", "computed_again"), [(1e-6, 0), (1.0, 36)], ids=["export", "recompute"]
)
def test_preemption_takes_the_cheaper_way(
    tmp_path: Path, copy_seconds: float, computed_again: int
) -> None:
    cost = CostModel(decode=((1, 0.01),), prefill=((64, 0.1),), copy_seconds_per_token=copy_seconds)
    house = House(tmp_path, capacity=1000 * BLOCK_BYTES, cost=cost)
    house.add(prompt(100), 8)
    for _ in range(4):
        house.step()
    before = house.runner.num_computed_tokens

    house.scheduler.victims = 1
    house.run()

    # What is computed again is what follows the full block that the prompt left behind.
    left = house.runner.num_computed_tokens - before
    assert left in range(4 + computed_again, 4 + computed_again + 5)
    house.engine.close()


def test_what_was_copied_out_goes_with_its_request(tmp_path: Path) -> None:
    house = House(tmp_path)
    requests = [house.add(prompt(30, seed), 50) for seed in range(3)]
    for _ in range(3):
        house.step()
    assert house.kv.memory_bytes == 0, "no full block yet"
    house.add(prompt(30, seed=3), 50, priority=-1)
    house.step()
    assert house.kv.memory_bytes > 0
    (victim,) = (request for request in requests if request.slot is None)

    house.live.pop(victim.request_id)
    house.engine.abort_request(victim.request_id)

    assert house.kv.memory_bytes == 0
    house.run()
    house.engine.close()


def test_log_probabilities_of_a_prompt_need_all_of_it(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.add(prompt(150), 1)
    house.run()

    request = make_request(prompt(150), max_tokens=1, context=CONTEXT, prompt_logprobs=0)
    house.live[request.request_id] = (request, prompt(150))
    house.engine.add_request(request)
    house.run()

    assert house.cached[request.request_id] == 0
    assert len(request.prompt_reports) == 149
    house.engine.close()
