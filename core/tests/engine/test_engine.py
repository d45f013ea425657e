from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferflux_core.engine.engine import Engine
from inferflux_core.engine.protocol import RequestOutput
from inferflux_core.engine.request import Request
from inferflux_core.engine.scheduler import SchedulerLimits
from inferflux_core.schedulers.fcfs import FCFSScheduler
from inferflux_core.testing import DeterministicRunner, make_request


def make_engine(runner: DeterministicRunner, budget: int = 32) -> Engine:
    capabilities = runner.capabilities
    limits = SchedulerLimits(
        max_num_seqs=capabilities.max_num_seqs,
        max_num_batched_tokens=max(budget, capabilities.max_num_seqs + capabilities.prefill_quantum),
        prefill_quantum=capabilities.prefill_quantum,
    )
    return Engine(runner, FCFSScheduler(limits))


def run(engine: Engine) -> list[RequestOutput]:
    outputs: list[RequestOutput] = []
    while engine.has_unfinished_requests:
        for batch in engine.step():
            outputs += batch
        engine.check_integrity()
    return outputs


def test_thirty_two_streams_equal_one_at_a_time() -> None:
    runner = DeterministicRunner(max_num_seqs=32, prefill_quantum=4)
    engine = make_engine(runner, budget=48)
    requests = [make_request(f"question {i} " * (1 + i % 5), max_tokens=24) for i in range(32)]
    prompts = {r.request_id: list(r.token_ids) for r in requests}
    for request in requests:
        engine.add_request(request)

    run(engine)

    for request in requests:
        expected = runner.continuation(prompts[request.request_id], 24)
        assert request.output_token_ids == expected


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), slots=st.integers(1, 6), quantum=st.sampled_from([1, 4, 16]))
def test_golden_under_random_arrival_and_abort(seed: int, slots: int, quantum: int) -> None:
    """Whatever comes and goes around it, a request gets the tokens it would get alone."""
    rng = random.Random(seed)  # noqa: S311 - not cryptography
    runner = DeterministicRunner(slots, prefill_quantum=quantum, rows_per_pass=rng.randint(1, 4))
    engine = make_engine(runner, budget=rng.randint(1, 40))
    live: list[Request] = []
    prompts: dict[int, list[int]] = {}
    aborted: set[int] = set()
    arrivals = rng.randint(1, 12)
    while arrivals or engine.has_unfinished_requests:
        if arrivals and rng.random() < 0.5:
            length = rng.randint(1, 60)
            request = make_request(
                [rng.randrange(258) for _ in range(length)], max_tokens=rng.randint(1, 20)
            )
            prompts[request.request_id] = list(request.token_ids)
            live.append(request)
            engine.add_request(request)
            arrivals -= 1
        if live and rng.random() < 0.1:
            victim = rng.choice(live)
            aborted.add(victim.request_id)
            engine.abort_request(victim.request_id)
        for _ in engine.step():
            pass
        engine.check_integrity()

    for request in live:
        got = request.output_token_ids
        expected = runner.continuation(prompts[request.request_id], len(got))
        assert got == expected
        if request.request_id not in aborted:
            assert len(request.token_ids) == request.max_total_tokens


def test_a_long_prompt_does_not_hold_up_the_others() -> None:
    runner = DeterministicRunner(4, max_model_len=1024, prefill_quantum=16)
    engine = make_engine(runner, budget=32)
    short = make_request("hi", max_tokens=40)
    engine.add_request(short)
    list(engine.step())
    engine.add_request(make_request("x" * 500, max_tokens=1, context=1024))

    for _ in range(10):
        before = len(short.token_ids)
        list(engine.step())
        assert len(short.token_ids) == before + 1


def test_first_output_of_a_step_is_that_of_running_requests() -> None:
    runner = DeterministicRunner(4, rows_per_pass=1)
    engine = make_engine(runner)
    first = make_request("a", max_tokens=10)
    engine.add_request(first)
    list(engine.step())
    second = make_request("b", max_tokens=10)
    engine.add_request(second)

    passes = [[o.request_id for o in outputs] for outputs in engine.step()]

    assert passes == [[first.request_id], [second.request_id]]


def test_ends_at_the_models_own_end() -> None:
    runner = DeterministicRunner()
    # The hash decides when it ends: look for a prompt whose greedy answer contains the end token.
    for n in range(2000):
        answer = runner.continuation([n % 256, n // 256], 12)
        if 257 in answer[:-1]:
            break
    else:
        pytest.fail("no prompt found")
    request = make_request([n % 256, n // 256], max_tokens=12, ignore_eos=False)
    engine = make_engine(runner)
    engine.add_request(request)

    outputs = run(engine)

    assert outputs[-1].finish_reason == "stop"
    assert len(request.output_token_ids) == answer.index(257) + 1


def test_stop_token_ids_end_the_answer() -> None:
    runner = DeterministicRunner()
    third = runner.continuation(list(b"hello"), 3)[2]
    request = make_request("hello", max_tokens=12, stop_token_ids=[third])
    engine = make_engine(runner)
    engine.add_request(request)

    outputs = run(engine)

    assert outputs[-1].finish_reason == "stop"
    assert request.output_token_ids[-1] == third


def test_length_is_the_reason_when_tokens_run_out() -> None:
    engine = make_engine(DeterministicRunner())
    engine.add_request(make_request("hello", max_tokens=5))

    outputs = run(engine)

    assert [o.finish_reason for o in outputs] == [None] * 4 + ["length"]
    assert sum(o.num_tokens for o in outputs) == 5


def test_logprobs_are_reported_per_token() -> None:
    engine = make_engine(DeterministicRunner())
    engine.add_request(make_request("hello", max_tokens=3, logprobs=4))

    reports = [report for output in run(engine) for report in output.reports]

    assert len(reports) == 3
    for report in reports:
        assert len(report.alternatives) == 4
        # Greedy takes the likeliest, so the report of the choice leads the alternatives.
        assert report.alternatives[0][1] == pytest.approx(report.logprob)
        assert all(lp <= 0 for _, lp in report.alternatives)


def test_fail_all_ends_every_request() -> None:
    engine = make_engine(DeterministicRunner(2))
    for _ in range(5):
        engine.add_request(make_request())
    list(engine.step())

    outputs = engine.fail_all("gone")

    assert len(outputs) == 5
    assert {o.error for o in outputs} == {("engine_error", "gone")}
    assert not engine.has_unfinished_requests
    engine.check_integrity()
