"""Drafts change how soon tokens come, and nothing else."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferflux_core.backends.byte_tokenizer import EOS_ID, ByteTokenizer
from inferflux_core.engine.cost import CostModel
from inferflux_core.engine.engine import Engine
from inferflux_core.engine.kv.manager import KVCacheManager
from inferflux_core.engine.protocol import RequestOutput
from inferflux_core.engine.request import Request
from inferflux_core.engine.runner import ModelOutput, RunnerError, Work
from inferflux_core.engine.scheduler import SchedulerLimits
from inferflux_core.engine.speculation.draft_model import DraftModelDrafter, vocabulary_difference
from inferflux_core.engine.speculation.drafter import Drafter
from inferflux_core.engine.speculation.ngram import NgramDrafter
from inferflux_core.engine.speculation.speculator import Speculator
from inferflux_core.schedulers.fcfs import FCFSScheduler
from inferflux_core.testing import DeterministicRunner, make_request
from inferflux_core.testing.drafting import FreeDrafter


class Periodic(DeterministicRunner):
    """Repeats the alphabet, so that there is something to look up."""

    def execute(self, batch: Sequence[Work]) -> Iterator[ModelOutput]:
        rows = [
            (index, work.token_ids[at])
            for index, work in enumerate(batch)
            for at in range(len(work.token_ids) - work.num_logits, len(work.token_ids))
        ]
        for _ in super().execute(batch):
            pass
        logits = np.zeros((len(rows), self.capabilities.vocab_size), np.float32)
        for row, (_, token_id) in enumerate(rows):
            logits[row, (token_id + 1 - 97) % 26 + 97] = 9
        yield ModelOutput([index for index, _ in rows], logits)


class Oracle(FreeDrafter):
    """Right with a certain probability, token by token."""

    def __init__(self, runner: DeterministicRunner, accuracy: float) -> None:
        self._runner = runner
        self._accuracy = accuracy
        self._chance = random.Random(3)
        self.forgotten: list[int] = []

    def propose(self, requests: Sequence[Request], num_tokens: int) -> list[list[int]]:
        return [
            [
                token if self._chance.random() < self._accuracy else self._chance.randrange(256)
                for token in self._runner.continuation(
                    r.token_ids, self._chance.randint(0, num_tokens)
                )
            ]
            for r in requests
        ]

    def forget(self, request: Request) -> None:
        self.forgotten.append(request.request_id)


def make_engine(
    runner: DeterministicRunner, *drafters: Drafter, max_draft_tokens: int = 8
) -> Engine:
    limits = SchedulerLimits(
        max_num_seqs=runner.capabilities.max_num_seqs, max_num_batched_tokens=96
    )
    speculator = Speculator(drafters, runner.capabilities, max_draft_tokens) if drafters else None
    return Engine(runner, FCFSScheduler(limits), KVCacheManager(runner, 1 << 16), speculator)


def run(engine: Engine) -> dict[int, RequestOutput]:
    """All outputs of each request, as one."""
    whole: dict[int, RequestOutput] = {}
    while engine.has_unfinished_requests:
        for outputs in engine.step():
            for output in outputs:
                before = whole.get(output.request_id)
                whole[output.request_id] = before.merge(output) if before else output
        engine.check_integrity()
    return whole


DRAFTERS: dict[str, Callable[[DeterministicRunner], list[Drafter]]] = {
    "perfect": lambda runner: [Oracle(runner, 1.0)],
    "good": lambda runner: [Oracle(runner, 0.7)],
    "useless": lambda runner: [Oracle(runner, 0.0)],
    "n-gram": lambda runner: [NgramDrafter()],
    "twin model": lambda runner: [DraftModelDrafter(DeterministicRunner(2, 512))],
    "other model": lambda runner: [DraftModelDrafter(Periodic(3, 512))],
    "several": lambda runner: [NgramDrafter(), Oracle(runner, 0.5)],
}


@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("kind", DRAFTERS)
def test_answers_are_those_of_the_model_alone(kind: str, uniform: bool) -> None:
    runner = DeterministicRunner(max_num_seqs=4, max_model_len=256, uniform_rows=uniform)
    engine = make_engine(runner, *DRAFTERS[kind](runner))
    chance = random.Random(1)
    prompts: dict[int, list[int]] = {}
    requests = {}
    for _ in range(12):
        prompt = chance.choices(range(97, 100), k=chance.randint(1, 90))
        request = make_request(prompt, max_tokens=chance.randint(1, 60))
        prompts[request.request_id], requests[request.request_id] = prompt, request
        engine.add_request(request)
        for _ in range(chance.randint(0, 6)):
            list(engine.step())
            engine.check_integrity()
            assert engine.stats().num_accepted <= engine.stats().num_drafted
    run(engine)

    assert engine.stats().num_accepted <= engine.stats().num_drafted
    for request_id, request in requests.items():
        answer = request.output_token_ids
        assert answer == runner.continuation(prompts[request_id], len(answer))
        assert len(request.token_ids) == request.max_total_tokens


def test_perfect_drafts_save_steps() -> None:
    runner = DeterministicRunner(max_num_seqs=1, max_model_len=256)
    engine = make_engine(runner, DraftModelDrafter(DeterministicRunner(1, 512)))
    engine.add_request(make_request(max_tokens=82))

    steps = 0
    while engine.has_unfinished_requests:
        list(engine.step())
        steps += 1

    # Eight drafts and the model's own token a step, after the first.
    assert steps == 1 + 81 // 9
    assert engine.stats().num_accepted == engine.stats().num_drafted == 72


def test_repetition_is_found() -> None:
    runner = Periodic(max_num_seqs=2, max_model_len=512)
    engine = make_engine(runner, NgramDrafter())
    request = make_request("abcdefghijklmnopqrstuvwxyzabc", max_tokens=200, context=512)
    engine.add_request(request)

    output = run(engine)[request.request_id]

    assert output.text == ("defghijklmnopqrstuvwxyzabc" * 8)[:200]
    assert engine.stats().num_accepted > 150


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([1, 2, 3, 4, 5, 1, 2], [3, 4, 5, 1]),
        ([7, 7, 7], [7, 7, 7, 7]),
        ([1, 2, 9, 1, 2, 8, 1, 2], [8, 1, 2, 8]),
        ([4, 1, 2, 3, 5, 6, 9, 2, 3, 4, 1, 2, 3], [5, 6, 9, 2]),
        ([1, 2, 3, 4], []),
        ([1], []),
    ],
    ids=["once", "period", "latest", "longest", "never", "short"],
)
def test_what_an_ngram_drafter_proposes(tokens: list[int], expected: list[int]) -> None:
    assert NgramDrafter((5, 3, 2)).propose([make_request(tokens)], 4) == [expected]


def test_an_index_grows_with_its_text() -> None:
    chance = random.Random(5)
    drafter, request = NgramDrafter(), make_request([1, 2])
    for _ in range(300):
        request.token_ids += chance.choices(range(4), k=chance.randint(1, 4))

        assert drafter.propose([request], 6) == NgramDrafter().propose([request], 6)


@pytest.mark.parametrize("stop", [["gh"], ["z"], ["tuv", "lm"]])
def test_stop_strings_cut_accepted_runs(stop: list[str]) -> None:
    results = []
    for drafters in ([], [NgramDrafter()]):
        engine = make_engine(Periodic(max_num_seqs=1, max_model_len=512), *drafters)
        request = make_request("xyzabcdefgh" * 2 + "xyzab", max_tokens=80, context=512, stop=stop)
        engine.add_request(request)
        output = run(engine)[request.request_id]
        results.append((output.text, output.finish_reason, output.num_tokens))

    assert results[0] == results[1]
    assert results[0][1] == "stop"


def test_the_end_cuts_accepted_runs() -> None:
    class Ending(DeterministicRunner):
        def logits(self, state: int) -> np.ndarray:
            row = super().logits(state)
            if state % 7 == 0:
                row[EOS_ID] += 100
            return row

    results = []
    for drafted in (False, True):
        runner = Ending(max_num_seqs=1, max_model_len=256)
        engine = make_engine(runner, *[Oracle(runner, 1.0)] * drafted)
        for _ in range(10):
            engine.add_request(
                make_request(f"text {len(results)}", max_tokens=50, ignore_eos=False)
            )
        results.append([(o.text, o.finish_reason, o.num_tokens) for o in run(engine).values()])
        results[-1].sort()

    assert {reason for _, reason, _ in results[0]} == {"stop"}


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 0.8},
        {"temperature": 1.5, "top_p": 0.9},
        {"temperature": 0.7, "top_k": 5, "frequency_penalty": 0.5, "presence_penalty": 0.3},
        {"temperature": 0.0, "repetition_penalty": 1.3},
        {"temperature": 0.9, "logprobs": 2},
    ],
    ids=str,
)
def test_a_seed_draws_the_same_tokens_with_and_without_drafts(params: dict[str, float]) -> None:
    texts = []
    for drafted in (False, True):
        runner = DeterministicRunner(max_num_seqs=4, max_model_len=256)
        engine = make_engine(runner, *[Oracle(runner, 0.5)] * drafted)
        requests = [make_request("abc", max_tokens=40, seed=seed, **params) for seed in range(6)]
        for request in requests:
            engine.add_request(request)
        outputs = run(engine)
        texts.append([(r.output_token_ids, outputs[r.request_id].reports) for r in requests])

    assert texts[0] == texts[1]


def test_drafts_leave_the_distribution_alone() -> None:
    """Chi-square over the last two tokens of 2,000 answers; 66.6 is its 0.1 % point for 35 degrees."""

    class Few(DeterministicRunner):
        def logits(self, state: int) -> np.ndarray:
            row = np.full(self.capabilities.vocab_size, -np.inf, np.float32)
            row[:6] = super().logits(state % 5)[:6] / 4
            return row

    counts = []
    for drafted in (False, True):
        runner = Few(max_num_seqs=16, max_model_len=64)
        engine = make_engine(runner, *[Oracle(runner, 0.9)] * drafted, max_draft_tokens=3)
        requests = [
            make_request("a", max_tokens=3, temperature=1.0, seed=seed + 10_000 * drafted)
            for seed in range(2000)
        ]
        for request in requests:
            engine.add_request(request)
        run(engine)
        counts.append(Counter(tuple(r.output_token_ids[1:3]) for r in requests))
        if drafted:
            assert engine.stats().num_accepted > 100

    plain, drafted_counts = counts
    cells = [cell for cell in plain | drafted_counts if plain[cell] + drafted_counts[cell] > 20]
    chi_square = sum(
        (plain[cell] - drafted_counts[cell]) ** 2 / (plain[cell] + drafted_counts[cell])
        for cell in cells
    )
    assert 10 < len(cells) <= 36
    assert chi_square < 66.6


@pytest.mark.parametrize(
    ("seconds_per_row", "drafts"), [(0.0001, True), (1.0, False)], ids=["cheap", "dear"]
)
def test_drafts_are_verified_where_rows_are_cheap(seconds_per_row: float, drafts: bool) -> None:
    cost = CostModel(decode=((1, 1.0), (64, 1.0 + 63 * seconds_per_row)), prefill=((64, 1.0),))
    runner = DeterministicRunner(max_num_seqs=1, max_model_len=256, cost=cost)
    engine = make_engine(runner, Oracle(runner, 1.0))
    engine.add_request(make_request(max_tokens=60))

    run(engine)

    assert (engine.stats().num_drafted > 0) is drafts


def test_bad_drafts_are_given_up_and_tried_again() -> None:
    cost = CostModel(decode=((1, 1.0), (9, 3.0)), prefill=((64, 1.0),))
    runner = DeterministicRunner(max_num_seqs=1, max_model_len=2048, cost=cost)
    engine = make_engine(runner, Oracle(runner, 0.0))
    engine.add_request(make_request(max_tokens=1000, context=2048))

    run(engine)

    # Far fewer than the thousands that an unguarded drafter would have had verified.
    assert 10 < engine.stats().num_drafted < 400


def test_only_the_drafter_that_breaks_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(DeterministicRunner):
        closed = False

        def execute(self, batch: Sequence[Work]) -> Iterator[ModelOutput]:
            raise RunnerError("it burnt down")
            yield

        def close(self) -> None:
            self.closed = True

    broken = Broken()
    runner = Periodic(max_num_seqs=2, max_model_len=256)
    engine = make_engine(runner, NgramDrafter(), DraftModelDrafter(broken))
    # Nothing has repeated yet, so the draft model is asked; later on there is something to look up.
    request = make_request("abc", max_tokens=120)
    engine.add_request(request)

    run(engine)

    assert bytes(request.output_token_ids).decode() == ("defghijklmnopqrstuvwxyzabc" * 5)[:120]
    assert broken.closed
    assert engine.stats().num_failed_drafters == 1
    assert engine.stats().num_accepted > 60
    (record,) = caplog.records
    assert record.getMessage() == "the draft model failed and is not asked any more: it burnt down"


@pytest.mark.parametrize(
    ("draft_seconds", "asked"), [(0.05, True), (0.9, False)], ids=["quick", "slow"]
)
def test_a_draft_model_is_asked_only_if_its_own_time_pays(
    draft_seconds: float, asked: bool
) -> None:
    """Verification is all but free, and all guesses are right."""
    nearly_free = CostModel(decode=((1, 1.0), (64, 1.1)), prefill=((64, 1.0),))
    drafting = CostModel(
        decode=((1, draft_seconds), (4, draft_seconds)), prefill=((64, draft_seconds),)
    )
    runner = DeterministicRunner(max_num_seqs=1, max_model_len=256, cost=nearly_free)
    twin = DeterministicRunner(max_num_seqs=1, max_model_len=512, cost=drafting)
    engine = make_engine(runner, DraftModelDrafter(twin))
    engine.add_request(make_request(max_tokens=80))

    run(engine)

    assert (twin.num_computed_tokens > 0) is asked
    assert (engine.stats().num_accepted > 60) is asked


def test_a_draft_model_is_asked_for_as_many_tokens_as_pay() -> None:
    counts = []

    class Noted(DraftModelDrafter):
        def propose(self, requests: Sequence[Request], num_tokens: int) -> list[list[int]]:
            counts.append(num_tokens)
            return super().propose(requests, num_tokens)

    # (1 + 0.8 + ... + 0.8^k) / (1 + 0.2 k) is largest at k = 4; where all guesses are right, 8 are better.
    flat = CostModel(decode=((1, 1.0), (64, 1.0)), prefill=((64, 1.0),))
    drafting = CostModel(decode=((1, 0.2), (4, 0.2)), prefill=((64, 0.0),))
    runner = DeterministicRunner(max_num_seqs=1, max_model_len=256, cost=flat)
    twin = DeterministicRunner(max_num_seqs=1, max_model_len=512, cost=drafting)
    engine = make_engine(runner, Noted(twin))
    engine.add_request(make_request(max_tokens=120))

    run(engine)

    assert (counts[0], max(counts)) == (4, 8)


def test_a_long_prompt_is_computed_for_a_long_answer_only() -> None:
    cost = CostModel(decode=((1, 1.0), (4, 1.0)), prefill=((100, 10.0),))
    drafter = DraftModelDrafter(DeterministicRunner(2, 512, cost=cost))
    request = make_request("a" * 101)

    accepted = []
    for _ in range(20):
        request.token_ids.append(97)
        accepted.append(drafter.accepts(request, 4))

    # Catching up takes a tenth of a second for each token, drafting a whole one.
    assert accepted == [False] * 11 + [True] * 9
    before = drafter.seconds([request], 4)
    drafter.propose([request], 4)
    request.token_ids.append(97)
    assert drafter.seconds([request], 4) < before


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_a_draft_model_writes_on_whatever_became_of_its_guesses(seed: int) -> None:
    """Guesses are accepted in part, corrected, agreed with again behind a wrong one, or not asked for."""
    chance = random.Random(seed)
    fresh, twin = DeterministicRunner(), DeterministicRunner(2, 512)
    drafter = DraftModelDrafter(twin)
    requests = [make_request(chance.choices(range(3), k=chance.randint(1, 9))) for _ in range(2)]
    for _ in range(12):
        asked = chance.sample(requests, chance.randint(1, 2))
        count = chance.randint(1, 5)
        drafts = drafter.propose(asked, count)
        assert drafts == [fresh.continuation(r.token_ids, count) for r in asked]
        # What it holds is the request's: asked again, it has only the last token to begin with.
        computed = twin.num_computed_tokens
        assert drafter.propose(asked, count) == drafts
        assert twin.num_computed_tokens == computed + count * len(asked)
        for request, draft in zip(asked, drafts, strict=True):
            right = chance.randint(0, count)
            request.token_ids += draft[:right]
            if chance.random() < 0.8:
                wrong = (draft[right] if right < count else 0) ^ chance.randint(0, 1)
                request.token_ids += [wrong, *draft[right + 1 :]][: chance.randint(1, 4)]
        if chance.random() < 0.1:
            drafter.forget(requests[0])


def test_tokens_that_only_fill_up_do_not_count() -> None:
    class First(FreeDrafter):
        """Right about the first request of a step, and silent about others."""

        def propose(self, requests: Sequence[Request], num_tokens: int) -> list[list[int]]:
            right = runner.continuation(requests[0].token_ids, num_tokens)
            return [right if r is requests[0] else [] for r in requests]

    class Monotonous(DeterministicRunner):
        def logits(self, state: int) -> np.ndarray:
            row = np.zeros(self.capabilities.vocab_size, np.float32)
            row[97] = 9
            return row

    runner = Monotonous(max_num_seqs=2, max_model_len=256, uniform_rows=True)
    engine = make_engine(runner, First())
    # Both end within accepted drafts, one of them on tokens that were only put there to fill up.
    for _ in range(2):
        engine.add_request(make_request("a", max_tokens=24))
    run(engine)

    stats = engine.stats()
    assert 0 < stats.num_accepted <= stats.num_drafted


def test_long_prompts_are_not_drafted_for() -> None:
    drafter = DraftModelDrafter(DeterministicRunner(2, 256), max_prefill_tokens=10)

    assert drafter.accepts(make_request("a" * 10), 3)
    assert not drafter.accepts(make_request("a" * 11), 3)


def test_a_draft_models_slots_are_given_back() -> None:
    drafter = DraftModelDrafter(DeterministicRunner(2, 256))
    requests = [make_request(f"text {i}") for i in range(5)]

    for request in requests:
        (draft,) = drafter.propose([request], 3)
        assert len(draft) == 3
        drafter.forget(request)


def test_another_vocabulary_is_noticed() -> None:
    class Shifted(ByteTokenizer):
        def piece(self, token_id: int) -> bytes:
            return super().piece(token_id ^ 1) if token_id < 256 else b""

    assert vocabulary_difference(ByteTokenizer(), ByteTokenizer()) is None
    assert vocabulary_difference(ByteTokenizer(), Shifted()) == (
        "token 0 is b'\\x01' to the draft model and b'\\x00' to the model"
    )


def test_whoever_ends_is_forgotten() -> None:
    runner = DeterministicRunner(max_num_seqs=2, max_model_len=256)
    oracle = Oracle(runner, 0.5)
    engine = make_engine(runner, oracle)
    requests = [make_request(max_tokens=9) for _ in range(3)]
    for request in requests:
        engine.add_request(request)
    engine.abort_request(requests[0].request_id)

    run(engine)

    assert sorted(oracle.forgotten) == [request.request_id for request in requests]
