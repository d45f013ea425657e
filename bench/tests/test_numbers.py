from __future__ import annotations

import math

import msgspec
import pytest
from bench import BenchError
from bench.client import Answer
from bench.prompts import Calibration, Prompts
from bench.report import (
    Level,
    ServerRun,
    comparison,
    level_table,
    median_level,
    percentile,
    summarize,
)


def answered(started: float, *stamps: float, tokens: int, prompt: int = 100) -> Answer:
    return Answer(
        started,
        stamps=list(stamps),
        finished=stamps[-1],
        completion_tokens=tokens,
        prompt_tokens=prompt,
        status=200,
    )


@pytest.fixture
def level() -> Level:
    answers = [
        answered(0.0, 0.1, 0.2, 0.4, tokens=3, prompt=90),
        answered(0.0, 0.3, 0.5, 1.0, tokens=5, prompt=110),
        Answer(0.0, finished=2.0, error="HTTP 503: busy"),
    ]
    return summarize(2, answers, 3, cpu=0.1)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([5.0], 0.99, 5.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([1.0, 2.0], 0.5, 1.5),
        (list(range(101)), 0.99, 99.0),
        ([0.0, 10.0], 0.99, 9.9),
    ],
)
def test_percentiles(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == pytest.approx(expected)


def test_a_percentile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(percentile([], 0.5))


def test_a_level_counts_only_good_answers_and_all_the_time(level: Level) -> None:
    assert (level.requests, level.errors, level.first_error) == (3, 1, "HTTP 503: busy")
    assert level.output_tokens == 8
    assert level.tokens_per_second == pytest.approx(8 / 2.0)
    assert level.short == 1
    assert level.prompt_tokens == 100
    assert level.client_cpu == pytest.approx(0.05)


def test_latencies_are_milliseconds(level: Level) -> None:
    assert level.ttft_p50 == pytest.approx(200)
    assert level.ttft_p99 == pytest.approx(298)
    assert level.itl_p50 == pytest.approx(200)  # of 100, 200, 200, 500
    assert level.tpot_p50 == pytest.approx((150 + 175) / 2)
    assert level.tokens_per_event == pytest.approx(8 / 6)


def test_a_level_where_all_failed_is_reported(level: Level) -> None:
    failed = summarize(1, [Answer(0.0, finished=1.0, error="dead")], 3, cpu=0.0)
    assert failed.tokens_per_second == 0
    assert math.isnan(failed.ttft_p50)
    assert "first error at 1 users: dead" in level_table("x", [failed])


def test_medians_are_per_number_and_errors_add_up(level: Level) -> None:
    runs = [
        msgspec.structs.replace(level, tokens_per_second=speed, ttft_p50=ttft)
        for speed, ttft in [(10.0, 3.0), (30.0, 1.0), (20.0, 2.0)]
    ]
    median = median_level(runs)
    assert (median.tokens_per_second, median.ttft_p50) == (20.0, 2.0)
    assert (median.concurrency, median.errors, median.requests) == (2, 3, 9)


def test_ratios_are_of_neighbouring_runs(level: Level) -> None:
    def runs(name: str, *speeds: float) -> list[ServerRun]:
        return [
            ServerRun(
                server=name,
                ready_seconds=1.0,
                rss_mib=200.0 if name == "ours" else 100.0,
                pss_mib=None,
                levels=[msgspec.structs.replace(level, tokens_per_second=speed)],
            )
            for speed in speeds
        ]

    table = comparison(runs("ours", 20.0, 60.0, 30.0), runs("peer", 10.0, 20.0, 20.0))
    lines = [" ".join(line.split()) for line in table.splitlines()]
    assert "2 tok/s 30.00 20.00 2.000 [1.500-3.000]" in lines
    assert "peak RSS MiB 200.00 100.00 2.000 [2.000-2.000]" in lines
    assert "PSS" not in table


def test_calibration_gives_prompts_of_the_wanted_length() -> None:
    calibration = Calibration.fit((40, 90), (140, 290))
    assert calibration == Calibration(fixed=10, per_word=2)
    prompt = Prompts(calibration, tokens=210, shared_tokens=0, seed=1).next()
    assert len(prompt.split()) == 100


def test_calibration_needs_a_server_that_counts() -> None:
    with pytest.raises(BenchError, match="did not count more"):
        Calibration.fit((40, 10), (140, 10))


def test_prompts_are_the_same_again_and_differ_from_each_other() -> None:
    def take(seed: int) -> list[str]:
        prompts = Prompts(Calibration(), tokens=64, shared_tokens=0, seed=seed)
        return [prompts.next() for _ in range(500)]

    assert take(1) == take(1)
    starts = {" ".join(prompt.split()[:4]) for prompt in take(1) + take(2)}
    assert len(starts) == 1000


def test_only_the_shared_prefix_is_shared() -> None:
    prompts = Prompts(Calibration(), tokens=96, shared_tokens=32, seed=1)
    first, second = (prompts.next().split("\n") for _ in range(2))
    assert first[0] == second[0]
    assert len(first[0].split()) == 32
    assert len(first[1].split()) == 64
    assert first[1].split()[:4] != second[1].split()[:4]
