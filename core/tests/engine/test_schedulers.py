"""Priorities and the length of steps."""

from __future__ import annotations

import timeit

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


def test_who_was_preempted_goes_on_as_if_nothing_had_happened() -> None:
    engine = make_engine(2)
    requests = [request(9 - age, length=3 + age) for age in range(8)]
    for each in requests:
        engine.add_request(each)
        list(engine.step())
    finish_order(engine)

    assert engine.stats().num_preempted == 6
    for each in requests:
        prompt = each.token_ids[: each.num_prompt_tokens]
        assert each.output_token_ids == DeterministicRunner().continuation(prompt, 40)


def test_a_better_priority_goes_before_prompts_that_are_under_way() -> None:
    engine = make_engine(3, patience=0.001)
    for _ in range(2):
        engine.add_request(request(5, length=1500))
    list(engine.step())
    urgent = request(0, length=60)

    engine.add_request(urgent)
    list(engine.step())

    assert urgent.is_generating


def test_nobody_is_preempted_for_one_that_cannot_start() -> None:
    engine = make_engine(2, patience=0.001)
    answering, reading = request(7), request(-5, length=1500)
    for each in (answering, reading):
        engine.add_request(each)
        list(engine.step())
    urgent = request(0, max_tokens=2)
    engine.add_request(urgent)

    while not reading.is_generating:
        assert answering.slot is not None
        list(engine.step())
    list(engine.step())

    assert answering.slot is None
    assert urgent.slot is not None


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


def test_a_queue_tells_requests_with_one_number_apart() -> None:
    queue = RequestQueue()
    first, aborted = request(-1), request(5)
    queue.push(first)
    queue.push(aborted)
    queue.remove(aborted)
    again = request(5)
    again.request_id = aborted.request_id
    queue.push(again)
    queue.remove(first)

    assert queue.first() is again


def test_plans_cost_next_to_nothing() -> None:
    limits = SchedulerLimits(max_num_seqs=32, max_num_batched_tokens=512, prefill_quantum=64)
    scheduler = FCFSScheduler(limits)
    for _ in range(232):
        scheduler.add_request(request())
    for scheduled in scheduler.schedule().scheduled:
        scheduled.request.num_computed_tokens = scheduled.num_tokens
        scheduled.request.token_ids.append(0)

    seconds = min(timeit.repeat(scheduler.schedule, number=1, repeat=200))

    assert len(scheduler.schedule().scheduled) == 32
    assert seconds < 0.001, "ten times what it takes on a slow core"
