# ruff: noqa: D102 - a test's name says what it shows
"""The part of `BackendContract` that concerns computing."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest

from inferflux_core.engine.runner import (
    AdapterHost,
    DraftVerifier,
    ModelRunner,
    PrefixSharer,
    SlotMover,
    StateExporter,
)
from inferflux_core.testing.driving import Driver, assert_same_choice
from inferflux_core.testing.loaded_model import LoadedModel

__all__ = ["RunnerTests"]

PROMPTS = (
    "The capital of France is",
    "Once upon a time there was a princess who lived in",
    "def fibonacci(n):\n    if n",
)
PASSAGE = (
    "The sun is a star at the centre of our solar system. It is a nearly perfect ball of hot plasma. "
    "Light from the sun takes about eight minutes to reach the earth, and without it there would be "
    "no life as we know it. Plants turn sunlight into sugar, animals eat plants, and people eat both. "
    "At night, when the sun is on the other side of the earth, we can see other stars, which are"
)
ANSWER_LENGTH = 6


class RunnerTests(LoadedModel):
    """Tokens in, logits out."""

    def test_capabilities_keep_to_the_configuration(self, runner: ModelRunner) -> None:
        capabilities, runtime = runner.capabilities, self.runtime
        assert 1 <= capabilities.max_num_seqs <= (runtime.max_num_seqs or capabilities.max_num_seqs)
        limit = runtime.max_model_len or capabilities.max_model_len
        assert 1 <= capabilities.max_model_len <= limit
        assert capabilities.prefill_quantum >= 1
        assert capabilities.device, "`device` tells operators what executes the model"
        assert not capabilities.exports_state or isinstance(runner, StateExporter)
        assert not capabilities.shares_prefixes or isinstance(runner, PrefixSharer)
        assert capabilities.exports_state or not capabilities.shares_prefixes
        assert not capabilities.max_draft_tokens or isinstance(runner, DraftVerifier)
        assert not capabilities.contiguous_slots or isinstance(runner, SlotMover)
        assert not capabilities.hosts_adapters or isinstance(runner, AdapterHost)

    def test_whoever_wants_logits_gets_one_row(self, driver: Driver) -> None:
        """The driver checks indices, shape, type and numbers of whatever comes back."""
        prompts = [driver.encode(prompt) for prompt in PROMPTS]
        slots = range(driver.runner.capabilities.max_num_seqs)
        # The highest slot first: plans are not sorted.
        driver.compute({s: prompts[s % len(prompts)] for s in reversed(slots)}, quiet=slots[1::2])
        driver.compute({slot: prompts[0][: 1 + slot % 2] for slot in slots}, quiet=slots[::3])

    @pytest.mark.parametrize("prompt", PROMPTS)
    def test_the_most_probable_answer_is_always_the_same(self, driver: Driver, prompt: str) -> None:
        prompt_ids = driver.encode(prompt)
        first = driver.generate(0, prompt_ids, ANSWER_LENGTH)
        driver.release(0)
        assert driver.generate(0, prompt_ids, ANSWER_LENGTH) == first

    @pytest.mark.parametrize("odd", [0, 1])
    def test_a_prompt_in_chunks_is_a_prompt(self, driver: Driver, odd: int) -> None:
        """In chunks of the quantum that the runner asks for, and in others."""
        prompt = driver.encode(PASSAGE)
        whole = driver.append(0, prompt)
        driver.release(0)
        quantum = driver.runner.capabilities.prefill_quantum
        chunk = (quantum if 1 < quantum < len(prompt) else len(prompt) // 3) + odd
        assert_same_choice(driver.append(0, prompt, chunk=chunk), whole, self.near_tie)

    def test_a_prompt_token_by_token_is_a_prompt(self, driver: Driver) -> None:
        for prompt in map(driver.encode, PROMPTS):
            whole = driver.append(0, prompt)
            driver.release(0)
            assert_same_choice(driver.append(0, prompt, chunk=1), whole, self.near_tie)
            driver.release(0)

    def test_a_released_slot_remembers_nothing(self, driver: Driver) -> None:
        prompt = driver.encode(PROMPTS[0])
        fresh = driver.generate(0, prompt, ANSWER_LENGTH)
        driver.release(0)
        driver.generate(0, driver.encode(PASSAGE), 1)
        driver.release(0)
        assert driver.generate(0, prompt, ANSWER_LENGTH) == fresh

    def test_every_slot_computes_the_same(self, driver: Driver) -> None:
        prompt = driver.encode(PROMPTS[0])
        first = driver.append(0, prompt)
        for slot in range(1, driver.runner.capabilities.max_num_seqs):
            assert_same_choice(driver.append(slot, prompt), first, self.near_tie)

    def test_a_batch_computes_what_each_sequence_would_alone(self, driver: Driver) -> None:
        """Side by side, then with a gap where one has left, then with a newcomer's prompt among them."""
        if driver.runner.capabilities.max_num_seqs < len(PROMPTS):
            pytest.skip(f"fewer than {len(PROMPTS)} sequences at once")
        prompts = [driver.encode(prompt) for prompt in PROMPTS]
        answers, alone = [], []
        for prompt in prompts:
            answers.append(driver.generate(0, prompt, ANSWER_LENGTH))
            driver.release(0)
            alone.append(driver.rows(0, prompt, answers[-1]))
            driver.release(0)

        def check(slots: dict[int, list[int]], step: int) -> None:
            for slot, row in driver.compute(slots).items():
                assert_same_choice(row, alone[slot][step], self.near_tie)

        check(dict(enumerate(prompts)), 0)
        for step in range(ANSWER_LENGTH // 2):
            check({slot: [answers[slot][step]] for slot in (2, 0, 1)}, step + 1)
        driver.release(1)
        for step in range(ANSWER_LENGTH // 2, ANSWER_LENGTH):
            check({slot: [answers[slot][step]] for slot in (0, 2)}, step + 1)
        rows = driver.compute({0: [answers[0][0]], 1: prompts[1], 2: [answers[2][0]]})
        assert_same_choice(rows[1], alone[1][0], self.near_tie)

    def test_a_sequence_can_fill_the_context(self, driver: Driver) -> None:
        length = driver.runner.capabilities.max_model_len
        prompt = driver.encode(PASSAGE)
        driver.append(0, (prompt * length)[: length - 1])
        driver.append(0, prompt[-1:])

    def test_exported_state_continues_elsewhere(self, driver: Driver) -> None:
        runner = driver.runner
        if not runner.capabilities.exports_state:
            pytest.skip("capabilities.exports_state is false")
        exporter = cast("StateExporter", runner)
        prompt = driver.encode(PASSAGE)
        size = len(prompt) // 3
        whole = driver.append(0, prompt)
        bounds = (0, size, 2 * size)
        pieces = [exporter.export_state(0, bounds[i : i + 2])[0] for i in (0, 1)]
        assert exporter.export_state(0, bounds) == pieces
        driver.release(0)
        slot = runner.capabilities.max_num_seqs - 1
        exporter.import_state(slot, pieces, bounds)
        row = driver.resume(slot, 2 * size, prompt[2 * size :])
        assert_same_choice(row, whole, self.near_tie)

    @pytest.mark.parametrize("piece", [1, 7])
    def test_state_can_be_cut_anywhere(self, driver: Driver, piece: int) -> None:
        """Bounds need not be those of blocks, and an export need not begin at 0."""
        runner = driver.runner
        if not runner.capabilities.exports_state:
            pytest.skip("capabilities.exports_state is false")
        exporter = cast("StateExporter", runner)
        prompt = driver.encode(PASSAGE)
        whole = driver.append(0, prompt)
        middle = len(prompt) // 2
        bounds = [*range(0, middle, piece), middle, len(prompt) - 2]
        pieces = exporter.export_state(0, bounds[: middle // piece])
        pieces += exporter.export_state(0, bounds[len(pieces) :])
        driver.release(0)
        exporter.import_state(0, pieces, bounds)
        row = driver.resume(0, bounds[-1], prompt[bounds[-1] :])
        assert_same_choice(row, whole, self.near_tie)
        again = exporter.export_state(0, bounds)
        assert again == pieces, "what is imported must come out as it went in"

    def test_who_shares_a_beginning_goes_on_alone(self, driver: Driver) -> None:
        """Whoever of the two is the first to go on, and when the one it came from has left."""
        runner = driver.runner
        if not runner.capabilities.shares_prefixes or runner.capabilities.max_num_seqs < 2:
            pytest.skip("capabilities.shares_prefixes is false")
        prompt, other = driver.encode(PASSAGE), driver.encode(PROMPTS[2])[:3]
        length = len(prompt) * 2 // 3
        alone = {}
        for slot, rest in ((0, prompt[length:]), (1, other)):
            alone[slot] = driver.rows(slot, prompt[:length], rest)
            driver.release(slot)
        sharer = cast("PrefixSharer", runner)
        for order in ((0, 1), (1, 0)):
            driver.append(0, prompt[: length + 5])
            assert not sharer.share(0, 1, length + 6)
            assert sharer.share(0, 1, length)
            rests = {0: prompt[length + 5 :], 1: other}
            found = {}
            for slot in order:
                start = length if slot else length + 5
                found[slot] = driver.resume(slot, start, rests[slot])
                driver.release(slot)
            for slot in order:
                assert_same_choice(found[slot], alone[slot][-1], self.near_tie)

    def test_logits_after_every_token_are_those_of_one_by_one(self, driver: Driver) -> None:
        """Several sequences at once, one of them longer than a draft ever is."""
        slots = range(min(2, driver.runner.capabilities.max_num_seqs))
        prompts = [driver.encode(text) for text in (PASSAGE, PROMPTS[0])]
        alone = []
        for prompt in prompts[: len(slots)]:
            alone.append(driver.rows(0, prompt[:1], prompt[1:]))
            driver.release(0)
        tokens = {slot: prompts[slot] for slot in slots}
        rows = driver.compute_rows(tokens, {slot: len(prompts[slot]) for slot in slots})
        for slot in slots:
            for row, reference in zip(rows[slot], alone[slot], strict=True):
                assert_same_choice(row, reference, self.near_tie)

    def test_drafts_are_verified_as_if_they_had_come_one_by_one(self, driver: Driver) -> None:
        """Uniform and not, beside sequences without drafts, and in slots with a gap."""
        most = driver.runner.capabilities.max_draft_tokens
        if not most:
            pytest.skip("capabilities.max_draft_tokens is 0")
        slots = range(driver.runner.capabilities.max_num_seqs)[:4]
        prompts = {slot: driver.encode(PROMPTS[slot % len(PROMPTS)]) for slot in slots}
        answers, alone = {}, {}
        for slot in slots:
            answers[slot] = driver.generate(slot, prompts[slot], most + 1)
            driver.release(slot)
            alone[slot] = driver.rows(slot, prompts[slot], answers[slot])[1:]
            driver.release(slot)
        for counts in ([most] * 4, [most, 0, most, 1], [0, 0, 0, most]):
            driver.compute(prompts, quiet=slots)
            tokens = {slot: answers[slot][: 1 + counts[slot]] for slot in slots}
            rows = driver.compute_rows(tokens, {slot: 1 + counts[slot] for slot in slots})
            for slot in slots:
                for row, reference in zip(rows[slot], alone[slot][: 1 + counts[slot]], strict=True):
                    assert_same_choice(row, reference, self.near_tie)
                driver.release(slot)

    def test_drafts_that_are_taken_back_leave_no_trace(self, driver: Driver) -> None:
        most = driver.runner.capabilities.max_draft_tokens
        if not most:
            pytest.skip("capabilities.max_draft_tokens is 0")
        prompt = driver.encode(PASSAGE)
        answer = driver.generate(0, prompt, ANSWER_LENGTH)
        driver.release(0)
        alone = driver.rows(0, prompt, answer)
        driver.release(0)
        driver.append(0, prompt)
        wrong = driver.encode(PROMPTS[2])[-1]
        for step, token in enumerate(answer):
            driver.compute_rows({0: [token] + [wrong] * most}, {0: 1 + most})
            driver.truncate(0, len(prompt) + step)
            row = driver.append(0, [token])
            assert_same_choice(row, alone[step + 1], self.near_tie)

    def test_a_sequence_can_move_to_another_slot(self, driver: Driver) -> None:
        runner = driver.runner
        if not runner.capabilities.contiguous_slots or runner.capabilities.max_num_seqs < 2:
            pytest.skip("slots need not lie close together")
        prompt = driver.encode(PASSAGE)
        whole = driver.append(0, prompt)
        driver.release(0)
        last = runner.capabilities.max_num_seqs - 1
        driver.append(last, prompt[:-1])
        driver.move(last, 0)
        assert_same_choice(driver.append(0, prompt[-1:]), whole, self.near_tie)
        assert_same_choice(driver.append(last, prompt), whole, self.near_tie)

    def test_it_can_be_closed_twice(self, load: Callable[[], ModelRunner]) -> None:
        runner = load()
        runner.close()
        runner.close()
