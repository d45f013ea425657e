"""Priorities and the length of steps."""

from __future__ import annotations

import pytest

from inferflux_core.engine.cost import CostModel
from inferflux_core.engine.engine import Engine
from inferflux_core.engine.kv.manager import KVCacheManager
from inferflux_core.engine.request import Request
from inferflux_core.engine.scheduler import SchedulerLimits
from inferflux_core.schedulers.fcfs import FCFSScheduler
from inferflux_core.schedulers.queue import RequestQueue
from inferflux_core.testing import DeterministicRunner, make_request

COST = CostModel(decode=((1, 0.01), (8, 0.08)), prefill=((64, 0.064), (512, 0.512)))


def request(priority: int = 0, length: int = 4, max_tokens: int = 40) -> Request:
    made = make_request("x" * length, max_tokens=max_tokens, context=2048)
    made.priority = priority
    return made


def make_engine(slots: int, patience: float | None = None) -> Engine:
    runner = DeterministicRunner(slots, 2048, prefill_quantum=64, cost=COST)
    limits = SchedulerLimits(
        max_num_seqs=slots,
        max_num_batched_tokens=512,
        prefill_quantum=64,
        cost=COST,
        max_inter_token_seconds=patience,
    )
    return Engine(runner, FCFSScheduler(limits), KVCacheManager(runner, 0))


def finish_order(engine: Engine) -> list[int]:
    order = []
    while engine.has_unfinished_requests:
        for outputs in engine.step():
            order += [o.request_id for o in outputs if o.finish_reason]
        engine.check_integrity()
    return order


def test_better_priorities_go_first_and_equals_in_order() -> None:
    engine = make_engine(1)
    requests = [request(priority, max_tokens=2) for priority in (0, 5, -5, 0, -5)]
    for each in requests:
        engine.add_request(each)

    order = finish_order(engine)

    assert order == [requests[i].request_id for i in (2, 4, 0, 3, 1)]


def test_a_better_priority_preempts_the_worst() -> None:
    engine = make_engine(2)
    running = [request(1), request(7)]
    for each in running:
        engine.add_request(each)
    list(engine.step())
    urgent = request(0, max_tokens=2)

    engine.add_request(urgent)
    order = finish_order(engine)

    assert order == [r.request_id for r in (urgent, *running)]
    assert engine.stats().num_preempted == 1


def test_equal_priorities_never_preempt() -> None:
    engine = make_engine(1)
    for _ in range(5):
        engine.add_request(request(3))

    finish_order(engine)

    assert engine.stats().num_preempted == 0


@pytest.mark.parametrize(("patience", "chunk"), [(None, 511), (0.3, 256), (0.15, 128), (0.001, 64)])
def test_prompts_are_cut_while_somebody_waits(patience: float | None, chunk: int) -> None:
    engine = make_engine(2, patience)
    engine.add_request(request(length=10, max_tokens=100))
    list(engine.step())
    newcomer = request(length=1000)
    engine.add_request(newcomer)

    list(engine.step())

    # Beside one row of decoding; 0.3 s leave 0.29 for the prompt, at a millisecond per token.
    assert newcomer.num_computed_tokens == chunk - chunk % 64


def test_alone_a_prompt_gets_the_whole_step() -> None:
    engine = make_engine(2, 0.001)
    newcomer = request(length=1000)
    engine.add_request(newcomer)

    list(engine.step())

    assert newcomer.num_computed_tokens == 512


def test_a_queue_forgets_what_was_removed() -> None:
    queue = RequestQueue()
    requests = [request(priority) for priority in range(100)]
    for each in requests:
        queue.push(each)
    for each in requests[:99]:
        queue.remove(each)
        queue.remove(each)
    queue.push(requests[5])

    assert len(queue) == 2
    assert queue.first() is requests[5]
    queue.remove(requests[5])
    assert queue.first() is requests[99]
    queue.remove(requests[99])
    assert (queue.first(), len(queue)) == (None, 0)
