from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferflux_core.engine.engine import Engine
from inferflux_core.engine.kv.manager import KVCacheManager
from inferflux_core.engine.kv.memory_tier import MemoryTier
from inferflux_core.engine.protocol import RequestOutput
from inferflux_core.engine.request import Request
from inferflux_core.engine.scheduler import SchedulerLimits
from inferflux_core.schedulers.fcfs import FCFSScheduler
from inferflux_core.testing import DeterministicRunner, make_request


def make_engine(runner: DeterministicRunner, budget: int = 32, cache: int = 1 << 20) -> Engine:
    capabilities = runner.capabilities
    limits = SchedulerLimits(
        max_num_seqs=capabilities.max_num_seqs,
        max_num_batched_tokens=max(
            budget, capabilities.max_num_seqs + capabilities.prefill_quantum
        ),
        prefill_quantum=capabilities.prefill_quantum,
    )
    return Engine(runner, FCFSScheduler(limits), KVCacheManager(runner, cache))


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
    rng = random.Random(seed)
    runner = DeterministicRunner(slots, prefill_quantum=quantum, rows_per_pass=rng.randint(1, 4))
    # From no cache at all over one of two blocks to one that keeps everything.
    engine = make_engine(runner, rng.randint(1, 40), cache=rng.choice([0, 2 * 512, 1 << 20]))
    beginnings: list[list[int]] = []
    live: list[Request] = []
    prompts: dict[int, list[int]] = {}
    aborted: set[int] = set()
    arrivals = rng.randint(1, 12)
    while arrivals or engine.has_unfinished_requests:
        if arrivals and rng.random() < 0.5:
            prompt = [rng.randrange(258) for _ in range(rng.randint(1, 60))]
            if beginnings and rng.random() < 0.7:
                prompt = rng.choice(beginnings)[: rng.randint(1, 160)] + prompt
            beginnings.append(prompt)
            request = make_request(
                prompt,
                max_tokens=rng.randint(1, 20),
                cache_salt=rng.choice([b"", b"other"]),
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


def test_thirty_two_requests_with_one_beginning_compute_it_once() -> None:
    runner = DeterministicRunner(max_num_seqs=32, max_model_len=2048, prefill_quantum=16)
    engine = make_engine(runner, budget=512)
    system = "You are the very model of a modern major general. " * 20
    requests = [
        make_request(f"{system} Question {i}?", max_tokens=4, context=2048) for i in range(32)
    ]
    prompts = {r.request_id: list(r.token_ids) for r in requests}
    for request in requests:
        engine.add_request(request)

    outputs = run(engine)

    assert runner.num_computed_tokens < len(requests[0].token_ids) + 32 * 100
    cached = [o.num_cached_tokens for o in outputs if o.num_cached_tokens is not None]
    # All of it but the number, which is not where a block ends.
    assert sorted(cached) == [0] + [len(f"{system} Question ")] * 31
    for request in requests:
        assert request.output_token_ids == runner.continuation(prompts[request.request_id], 4)


def test_a_conversation_goes_on_where_it_stopped() -> None:
    runner = DeterministicRunner(max_model_len=2048)
    engine = make_engine(runner)
    first = make_request("a" * 200, max_tokens=60, context=2048)
    engine.add_request(first)
    run(engine)
    before = runner.num_computed_tokens
    second = make_request([*first.token_ids, *b" and then?"], max_tokens=1, context=2048)
    engine.add_request(second)
    run(engine)
    # Of 270 tokens, four blocks of 64 were kept: those of the prompt and those of the answer.
    assert second.num_cached_tokens == 256
    assert runner.num_computed_tokens - before == 270 - 256


def test_salts_part_the_cache() -> None:
    runner = DeterministicRunner(max_model_len=2048)
    engine = make_engine(runner)
    for salt, cached in ((b"a", 0), (b"b", 0), (b"a", 192)):
        request = make_request("x" * 200, max_tokens=1, context=2048, cache_salt=salt)
        engine.add_request(request)
        run(engine)
        assert request.num_cached_tokens == cached


def test_a_leader_that_is_aborted_leaves_its_followers_to_another() -> None:
    runner = DeterministicRunner(max_model_len=2048, prefill_quantum=16)
    engine = make_engine(runner, budget=32)
    requests = [make_request("x" * 500 + str(i), max_tokens=2, context=2048) for i in range(3)]
    for request in requests:
        engine.add_request(request)
    list(engine.step())
    engine.abort_request(requests[0].request_id)
    engine.check_integrity()
    run(engine)
    assert [len(r.output_token_ids) for r in requests] == [0, 2, 2]


def test_what_a_failed_pass_left_behind_is_not_kept() -> None:
    runner = DeterministicRunner(max_model_len=2048)
    engine = make_engine(runner, budget=1024)
    engine.add_request(make_request("x" * 500, context=2048))
    list(engine.step())
    engine.fail_all("lost")
    again = make_request("x" * 500, max_tokens=1, context=2048)
    engine.add_request(again)
    run(engine)
    # The first step kept its blocks when it was sound.
    assert again.num_cached_tokens == 448


def test_a_full_cache_drops_the_ends_of_old_prefixes_first() -> None:
    cache = MemoryTier(3)
    for name in (b"1", b"2", b"3"):
        cache.store(name, b"x")
    assert cache.match([b"1", b"2"]) == [b"x", b"x"]
    cache.store(b"4", b"x")
    assert b"3" not in cache
    cache.store(b"5", b"x")
    assert b"2" not in cache
    assert b"1" in cache
    cache.check_integrity()


def test_sequences_move_together_when_others_leave() -> None:
    runner = DeterministicRunner(max_num_seqs=8, max_model_len=256)
    engine = make_engine(runner)
    requests = [make_request(f"text {i}", max_tokens=40) for i in range(8)]
    prompts = [list(r.token_ids) for r in requests]
    for request in requests:
        engine.add_request(request)
    list(engine.step())

    for request in requests[1:6]:
        engine.abort_request(request.request_id)
    list(engine.step())

    assert sorted(str(requests[i].slot) for i in (0, 6, 7)) == ["0", "1", "2"]
    engine.check_integrity()
    run(engine)
    for i in (0, 6, 7):
        assert requests[i].output_token_ids == runner.continuation(prompts[i], 40)
