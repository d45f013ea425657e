from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inferflux_core.engine.request import Request
from inferflux_core.engine.sampler import SampledToken, Sampler
from inferflux_core.engine.sampling_params import SamplingParams
from inferflux_core.errors import InvalidRequestError
from inferflux_core.testing import make_request


def sample(logits: NDArray[np.float32], *params: dict[str, Any]) -> list[int]:
    requests = [make_request(**{"temperature": 1.0, **p}) for p in params]
    rows = np.tile(logits, (len(params), 1)).astype(np.float32)
    return [token_id(s) for s in Sampler().sample(requests, rows)]


def token_id(sampled: SampledToken | None) -> int:
    assert sampled is not None
    return sampled.token_id


def frequencies(
    logits: NDArray[np.float32], draws: int = 4000, **params: Any
) -> NDArray[np.float64]:
    sampler = Sampler()
    requests = [make_request(**{"temperature": 1.0, "seed": i, **params}) for i in range(50)]
    counts = np.zeros(len(logits))
    for _ in range(draws // 50):
        for choice in sampler.sample(requests, np.tile(logits, (50, 1)).astype(np.float32)):
            counts[token_id(choice)] += 1
    return counts / counts.sum()


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    result: NDArray[np.float64] = weights / weights.sum()
    return result


LOGITS = np.log(np.array([0.4, 0.3, 0.15, 0.1, 0.05], np.float32))


def test_greedy_takes_the_best() -> None:
    assert sample(LOGITS, {"temperature": 0.0}) == [0]


def test_rows_do_not_disturb_each_other() -> None:
    logits = np.stack([LOGITS, LOGITS[::-1]])
    requests = [make_request(temperature=0.0), make_request(temperature=1.0, top_k=1)]
    assert [token_id(s) for s in Sampler().sample(requests, logits)] == [0, 4]


def test_plain_sampling_follows_the_distribution() -> None:
    assert frequencies(LOGITS) == pytest.approx(softmax(LOGITS), abs=0.03)


def test_temperature_sharpens() -> None:
    assert frequencies(LOGITS, temperature=0.5) == pytest.approx(softmax(LOGITS * 2), abs=0.03)


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        ({"top_k": 2}, 2),
        ({"top_k": 100}, 5),
        ({"top_p": 0.6}, 2),
        ({"top_p": 0.71}, 3),
        ({"top_p": 0.0}, 1),
        ({"min_p": 0.3}, 3),
        ({"top_k": 3, "top_p": 0.5}, 2),
        ({"min_p": 0.2, "top_p": 0.9}, 4),
    ],
)
def test_truncation_keeps_the_likeliest(params: dict[str, Any], kept: int) -> None:
    expected = softmax(LOGITS)
    expected[kept:] = 0
    assert frequencies(LOGITS, **params) == pytest.approx(expected / expected.sum(), abs=0.035)


def test_typical_keeps_what_is_least_surprising() -> None:
    # Entropy is 1.39 nats; 0.3 (1.20) and 0.15 (1.90) are closest to it, then 0.4 (0.92).
    got = frequencies(LOGITS, typical_p=0.4)
    assert set(np.flatnonzero(got)) == {0, 1} or set(np.flatnonzero(got)) == {1, 2}


def test_truncation_on_a_large_vocabulary_equals_a_naive_nucleus() -> None:
    rng = np.random.default_rng(3)
    logits = (rng.standard_normal(5000) * 3).astype(np.float32)
    order = np.argsort(-logits)
    cumulative = np.cumsum(softmax(logits)[order])
    nucleus = set(order[: int(np.searchsorted(cumulative, 0.8)) + 1].tolist())
    got = frequencies(logits, top_p=0.8)
    assert set(np.flatnonzero(got)) <= nucleus


LARGE = 5003
"""Tokens: no multiple of anything that sums or groups are cut into."""
CUTS: list[dict[str, Any]] = [
    {},
    {"top_k": 1},
    {"top_k": 40},
    {"top_k": 1500},
    {"top_k": 40, "top_p": 0.9},
    {"top_k": 40, "min_p": 0.1},
    {"min_p": 0.02},
    {"top_p": 0.9},
    {"typical_p": 0.9},
    {"typical_p": 0.6, "top_k": 30, "top_p": 0.8, "min_p": 0.01},
]


def naive(logits: NDArray[np.float32], draw: float, params: SamplingParams) -> int:
    """A draw from the whole vocabulary sorted by weight, in float64; from the unsorted one without cuts."""
    shares = softmax(logits.astype(np.float64) / params.temperature)
    order = np.argsort(-shares, kind="stable") if params.truncated else np.arange(len(shares))
    shares = shares[order]
    keep = shares >= params.min_p * shares.max()
    if params.top_k:
        keep &= np.arange(len(shares)) < params.top_k
    shares = np.where(keep, shares, 0) / shares[keep].sum()
    if params.typical_p < 1.0:
        with np.errstate(divide="ignore"):
            surprise = np.where(shares > 0, -np.log(shares), np.inf)
        entropy = -(shares[shares > 0] * np.log(shares[shares > 0])).sum()
        nearest = np.argsort(np.abs(surprise - entropy), kind="stable")
        last = np.searchsorted(np.cumsum(shares[nearest]), params.typical_p)
        shares[nearest[last + 1 :]] = 0
        shares /= shares.sum()
    if params.top_p < 1.0:
        shares[np.cumsum(shares) - shares >= params.top_p] = 0
    cumulative = np.cumsum(shares)
    return int(order[np.searchsorted(cumulative, draw * cumulative[-1], side="right")])


@pytest.mark.parametrize("params", CUTS, ids=str)
@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_draws_are_those_of_the_whole_vocabulary(
    params: dict[str, Any], temperature: float
) -> None:
    rng = np.random.default_rng(11)
    logits = (rng.standard_normal(LARGE) * 3).astype(np.float32)
    logits[rng.random(LARGE) < 0.3] = -np.inf
    cuts = {**params, "temperature": temperature}
    wanted = []
    for seed in range(60):
        draw = np.random.default_rng(seed).random()
        wanted.append(naive(logits, draw, make_request(**cuts).params))
    found = sample(logits, *({**cuts, "seed": seed} for seed in range(60)))
    # A draw within rounding of a border may fall on either side of it.
    assert sum(a != b for a, b in zip(found, wanted, strict=True)) <= 1
    assert np.isfinite(logits[found]).all()


@pytest.mark.parametrize("params", [{}, {"top_k": 40}, {"top_p": 0.99}, {"min_p": 0.1}], ids=str)
def test_what_is_ruled_out_is_never_drawn(params: dict[str, Any]) -> None:
    for allowed in ([0], [LARGE - 1], [255, 256], [3000]):
        logits = np.full(LARGE, -np.inf, np.float32)
        logits[allowed] = -4.0
        drawn = sample(logits, *({**params, "seed": seed} for seed in range(40)))
        assert set(drawn) == set(allowed)


def test_a_seed_repeats_and_another_differs() -> None:
    flat = np.zeros(1000, np.float32)
    one, same, other = sample(flat, {"seed": 7}, {"seed": 7}, {"seed": 8})
    assert one == same != other


def test_a_seed_does_not_depend_on_the_batch() -> None:
    flat = np.zeros(1000, np.float32)
    alone = sample(flat, {"seed": 7})
    among = sample(flat, {"seed": 1, "top_k": 5}, {"seed": 7}, {"temperature": 0.0})
    assert among[1] == alone[0]


def test_logit_bias_forces_and_forbids() -> None:
    assert sample(LOGITS, {"temperature": 0.0, "logit_bias": {4: 100.0}}) == [4]
    assert frequencies(LOGITS, logit_bias={0: -100.0})[0] == 0


def run(request: Request, steps: int) -> list[int]:
    sampler = Sampler()
    for _ in range(steps):
        request.token_ids.append(token_id(sampler.sample([request], LOGITS[None].copy())[0]))
    return request.output_token_ids


def test_presence_penalty_counts_once() -> None:
    # ln 0.4 - 0.5 < ln 0.3: after one use, the runner-up leads, and so on; then repetition costs no more.
    assert run(make_request([4], presence_penalty=0.5), 3) == [0, 1, 0]


def test_frequency_penalty_counts_every_time() -> None:
    assert run(make_request([4], frequency_penalty=1.0), 6) == [0, 1, 2, 0, 1, 3]


def test_repetition_penalty_covers_the_prompt() -> None:
    logits = np.array([[2.0, 1.9, 1.0]], np.float32)
    request = make_request([0], repetition_penalty=1.5)
    assert token_id(Sampler().sample([request], logits)[0]) == 1


def test_logprobs_are_of_the_untouched_distribution() -> None:
    request = make_request(temperature=0.0, logprobs=2, logit_bias={3: 100.0})
    (sampled,) = Sampler().sample([request], LOGITS[None].copy())
    assert sampled is not None
    assert sampled.token_id == 3
    assert sampled.logprob == pytest.approx(np.log(0.1), abs=1e-5)
    assert [a.token_id for a in sampled.alternatives] == [0, 1]


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_broken_logits_are_noticed(broken: float) -> None:
    logits = np.stack([LOGITS, LOGITS])
    logits[0, 2] = broken
    first, second = Sampler().sample([make_request(), make_request()], logits)
    assert first is None
    assert second is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_p", 1.1),
        ("min_p", -1.0),
        ("typical_p", 2.0),
        ("top_k", -5),
        ("max_tokens", 0),
        ("frequency_penalty", 3.0),
        ("repetition_penalty", 0.0),
        ("logprobs", 21),
        ("logit_bias", {0: 101.0}),
        ("logit_bias", {0: float("nan")}),
        ("logit_bias", {300: 1.0}),
        ("stop", [""]),
        ("stop", ["x"] * 17),
        ("stop_token_ids", [-1]),
        ("stop_token_ids", [258]),
    ],
)
def test_parameters_out_of_range_are_named(name: str, value: object) -> None:
    params = SamplingParams(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError) as caught:
        params.validate(258)
    assert caught.value.param == name
