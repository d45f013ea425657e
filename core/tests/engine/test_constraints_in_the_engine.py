from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray

from inferflux_core.backends.byte_tokenizer import EOS_ID
from inferflux_core.engine.engine import Engine
from inferflux_core.engine.kv.manager import KVCacheManager
from inferflux_core.engine.preparation import RequestFactory
from inferflux_core.engine.protocol import Generate, RequestOutput, TextPrompt
from inferflux_core.engine.request import Request
from inferflux_core.engine.runner import ModelOutput, Work
from inferflux_core.engine.sampler import SampledToken, Sampler
from inferflux_core.engine.sampling_params import MAX_CONSTRAINT_LENGTH, Constraint, SamplingParams
from inferflux_core.engine.scheduler import SchedulerLimits
from inferflux_core.engine.speculation.speculator import Speculator
from inferflux_core.errors import InvalidRequestError
from inferflux_core.schedulers.fcfs import FCFSScheduler
from inferflux_core.testing import DeterministicRunner, make_request
from inferflux_core.testing.drafting import FreeDrafter

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "maximum": 99, "minimum": 0},
        "likes": {"type": "array", "items": {"enum": ["tea", "cake"]}, "maxItems": 2},
    },
    "required": ["name", "age", "likes"],
    "additionalProperties": False,
}


class CountingRunner(DeterministicRunner):
    """Counts the rows it computes logits for: one for every token that was not forced."""

    num_rows = 0

    def execute(self, batch: Sequence[Work]) -> Iterator[ModelOutput]:
        self.num_rows += sum(work.num_logits for work in batch)
        return super().execute(batch)


@pytest.fixture
def runner() -> CountingRunner:
    return CountingRunner(max_num_seqs=3, max_model_len=512)


@pytest.fixture
def engine(runner: CountingRunner) -> Engine:
    limits = SchedulerLimits(max_num_seqs=3, max_num_batched_tokens=16)
    return Engine(runner, FCFSScheduler(limits), KVCacheManager(runner, 1 << 16))


@pytest.fixture(scope="module")
def factory() -> RequestFactory:
    runner = DeterministicRunner(max_model_len=512)
    return RequestFactory(runner.tokenizer, runner.capabilities)


def build(factory: RequestFactory, number: int, kind: Any, value: Any, **params: Any) -> Request:
    constraint = Constraint(kind=kind, value=value if isinstance(value, str) else json.dumps(value))
    sampling = SamplingParams(
        **{"temperature": 0.0, "max_tokens": 200, **params}, constraint=constraint
    )
    prompt = TextPrompt(text=f"question {number}")
    return factory.build(Generate(request_id=number, prompt=prompt, params=sampling))


def run(engine: Engine, requests: Sequence[Request]) -> dict[int, RequestOutput]:
    """What each request got, once all have ended."""
    for request in requests:
        engine.add_request(request)
    outputs: dict[int, RequestOutput] = {}
    while engine.has_unfinished_requests:
        for batch in engine.step():
            for output in batch:
                earlier = outputs.get(output.request_id)
                outputs[output.request_id] = earlier.merge(output) if earlier else output
        engine.check_integrity()
    return outputs


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_whatever_the_model_says_the_answer_is_valid(
    engine: Engine, factory: RequestFactory, temperature: float
) -> None:
    requests = [
        build(factory, i, "json_schema", PERSON, temperature=temperature, seed=i) for i in range(12)
    ]
    for output in run(engine, requests).values():
        assert output.finish_reason == "stop"
        jsonschema.validate(json.loads(output.text), PERSON)


@pytest.mark.parametrize("params", [{}, {"frequency_penalty": 1.0, "repetition_penalty": 1.3}])
def test_forced_tokens_change_nothing_but_the_work(
    engine: Engine, runner: CountingRunner, factory: RequestFactory, params: dict[str, Any]
) -> None:
    """Requests that report log-probabilities take every token by itself."""
    plain = run(engine, [build(factory, i, "json_schema", PERSON, **params) for i in range(12)])
    rows, runner.num_rows = runner.num_rows, 0
    reported = [build(factory, i, "json_schema", PERSON, logprobs=0, **params) for i in range(12)]
    for number, output in run(engine, reported).items():
        assert (output.text, output.num_tokens) == (plain[number].text, plain[number].num_tokens)
        assert len(output.reports) == output.num_tokens
    assert rows < 0.6 * runner.num_rows


class Guesser(FreeDrafter):
    """Drafts that are at times right: what another request was answered, constrained or not."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = [text.encode() for text in texts]
        self._chance = random.Random(1)

    def propose(self, requests: Sequence[Request], num_tokens: int) -> list[list[int]]:
        return [
            list(self._chance.choice(self._texts)[len(r.output_token_ids) :][:num_tokens])
            for r in requests
        ]


def test_drafts_change_nothing_either(
    engine: Engine, runner: CountingRunner, factory: RequestFactory
) -> None:
    numbers = range(12)
    plain = run(engine, [build(factory, i, "json_schema", PERSON) for i in numbers])
    guesser = Guesser([output.text for output in plain.values()])
    speculator = Speculator([guesser], runner.capabilities, max_draft_tokens=4)
    limits = SchedulerLimits(max_num_seqs=3, max_num_batched_tokens=16)
    drafting = Engine(runner, FCFSScheduler(limits), KVCacheManager(runner, 1 << 16), speculator)
    drafted = run(drafting, [build(factory, i, "json_schema", PERSON) for i in numbers])
    assert {i: drafted[i].text for i in numbers} == {i: plain[i].text for i in numbers}
    assert 0 < speculator.num_accepted < speculator.num_drafted


def test_constrained_requests_leave_others_alone(
    engine: Engine, runner: CountingRunner, factory: RequestFactory
) -> None:
    free = make_request("hello", max_tokens=40)
    expected = runner.continuation(free.token_ids, 40)
    requests = [build(factory, 1000 + i, "json_schema", PERSON) for i in range(4)]
    run(engine, [requests[0], free, *requests[1:]])
    assert free.output_token_ids == expected


def test_what_is_cut_off_says_so(engine: Engine, factory: RequestFactory) -> None:
    (output,) = run(engine, [build(factory, 1, "json_schema", PERSON, max_tokens=5)]).values()
    assert (output.finish_reason, output.text) == ("length", '{"nam')


def test_a_stop_string_ends_a_run_of_forced_tokens(engine: Engine, factory: RequestFactory) -> None:
    (output,) = run(engine, [build(factory, 1, "choice", ["abcdef"], stop=["cd"])]).values()
    assert (output.finish_reason, output.text) == ("stop", "ab")


def test_an_answer_may_end_where_the_constraint_lets_it(
    engine: Engine, factory: RequestFactory
) -> None:
    biased = build(factory, 1, "regex", "a{1,50}", logit_bias={EOS_ID: 100.0})
    (output,) = run(engine, [biased]).values()
    assert (output.finish_reason, output.text) == ("stop", "a")


def test_ignore_eos_does_not_reach_past_the_end(engine: Engine, factory: RequestFactory) -> None:
    (output,) = run(engine, [build(factory, 1, "choice", ["ab"], ignore_eos=True)]).values()
    assert (output.finish_reason, output.text) == ("stop", "ab")


def test_wrong_constraints_are_refused_when_the_request_is_built(factory: RequestFactory) -> None:
    with pytest.raises(InvalidRequestError, match="no output can satisfy it"):
        build(factory, 1, "json_schema", {"enum": []})
    with pytest.raises(InvalidRequestError, match="at most"):
        build(factory, 1, "regex", "a" * (MAX_CONSTRAINT_LENGTH + 1))


class Broken:
    """A constraint that cannot go on, or that leaves nothing to choose from."""

    finished = False

    def __init__(self, *, leaves_nothing: bool) -> None:
        self._leaves_nothing = leaves_nothing

    def allows(self, token_id: int) -> bool:
        return False

    def mask(self, logits: NDArray[np.float32]) -> None:
        if self._leaves_nothing:
            logits.fill(-np.inf)

    def accept(self, token_id: int) -> None:
        raise InvalidRequestError("the constraint cannot go on: too many states", param="grammar")

    def forced(self) -> list[int]:
        return []


@pytest.mark.parametrize("leaves_nothing", [True, False])
def test_a_constraint_that_fails_fails_its_own_request_only(
    engine: Engine, runner: CountingRunner, *, leaves_nothing: bool
) -> None:
    broken, fine = make_request("one"), make_request("two")
    broken.constraint = Broken(leaves_nothing=leaves_nothing)
    expected = runner.continuation(fine.token_ids, 8)
    output = run(engine, [broken, fine])[broken.request_id]
    assert output.finish_reason == "error"
    assert output.param == (None if leaves_nothing else "grammar")
    assert fine.output_token_ids == expected


# ------------------------------------------------------------------------------- in the sampler


def choose(factory: RequestFactory, logits: NDArray[np.float32], **params: Any) -> SampledToken:
    request = build(factory, 1, "choice", ["ab", "cd"], **params)
    (token,) = Sampler().sample([request], logits[None].copy())
    assert token is not None
    return token


A, B, C = (ord(c) for c in "abc")


@pytest.fixture
def logits() -> NDArray[np.float32]:
    """`b` is likeliest, then `c`, then `a`."""
    logits = np.zeros(258, np.float32)
    logits[[A, B, C]] = 1.0, 9.0, 3.0
    return logits


def test_no_bias_brings_back_what_is_ruled_out(
    factory: RequestFactory, logits: NDArray[np.float32]
) -> None:
    assert choose(factory, logits).token_id == C
    assert choose(factory, logits, logit_bias={B: 100.0}).token_id == C
    assert choose(factory, logits, logit_bias={A: 100.0}).token_id == A
    assert choose(factory, logits, logit_bias={A: -100.0, C: -100.0}).token_id in (A, C)
    logits[B] = 2.0  # now the model itself would choose `c`
    assert choose(factory, logits, logit_bias={B: 100.0}).token_id == C
    assert choose(factory, logits, presence_penalty=-2.0, frequency_penalty=2.0).token_id == C


@pytest.mark.parametrize(
    "params",
    [{}, {"top_k": 1}, {"top_k": 40}, {"top_p": 0.3}, {"min_p": 0.5}, {"typical_p": 0.5},
     {"repetition_penalty": 1.5}, {"presence_penalty": 2.0}, {"temperature": 50.0}],
)  # fmt: skip
def test_only_what_is_left_is_drawn(
    factory: RequestFactory, logits: NDArray[np.float32], params: dict[str, Any]
) -> None:
    drawn = {
        choose(factory, logits, **{"temperature": 1.0, "seed": seed, **params}).token_id
        for seed in range(40)
    }
    assert drawn <= {A, C}


def test_draws_follow_the_distribution_of_what_is_left(
    factory: RequestFactory, logits: NDArray[np.float32]
) -> None:
    """The odds of `c` to `a` are those without the constraint, e^2 to 1."""
    rng = random.Random(3)
    draws = [
        choose(factory, logits, temperature=1.0, seed=rng.getrandbits(32)) for _ in range(2000)
    ]
    share = sum(draw.token_id == C for draw in draws) / len(draws)
    assert share == pytest.approx(np.exp(2) / (1 + np.exp(2)), abs=0.03)


def test_reported_logprobs_are_the_models_own(
    factory: RequestFactory, logits: NDArray[np.float32]
) -> None:
    token = choose(factory, logits, logprobs=1)
    exact = logits - np.log(np.exp(logits.astype(np.float64)).sum())
    assert (token.token_id, token.alternatives[0].token_id) == (C, B)
    assert token.logprob == pytest.approx(exact[C], abs=1e-4)
    assert token.alternatives[0].logprob == pytest.approx(exact[B], abs=1e-4)
