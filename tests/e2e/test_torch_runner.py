"""The real model as a folder of safetensors, run by torch on the processor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
import torch
from support.hf_folders import SMOLLM2, smollm2_folder
from support.peft_folders import drawn_factors, peft_folder
from support.servers import RunningServer, running_server
from support.torch_runners import exact_runner
from transformers import AutoModelForCausalLM

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.chat_template import ChatTemplate
from inferflux_core.engine.runner import Tokenizer, Work
from inferflux_core.models.folder.tokenizing import load_tokenizer
from inferflux_core.models.reference import resolve
from inferflux_core.testing.driving import Driver, assert_same_choice
from inferflux_core.testing.tokenizer_tests import TEXTS
from inferflux_runner_llamacpp.native_log import captured_log
from inferflux_runner_llamacpp.tokenizer import LlamaTokenizer
from inferflux_runner_torch import load

MODEL = "smollm2"
TEXT = (
    "The sun is a star at the centre of our solar system. Light from the sun takes about eight minutes to "
    "reach the earth, and without it there would be no life as we know it."
)
QUESTION = "Name the capital of France in one sentence."
MESSAGES = [
    {"role": "system", "content": "You answer in few words."},
    {"role": "user", "content": "Who wrote <|im_end|>?"},
    {"role": "assistant", "content": "Nobody — 'twas there already."},
    {"role": "user", "content": QUESTION},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smollm2_folder(tmp_path_factory.mktemp("safetensors") / "SmolLM2-135M", "BF16")


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one adapter, which changes every answer."""
    adapters = tmp_path_factory.mktemp("adapters")
    linears = {f"model.layers.{layer}.mlp.down_proj": (1536, 576) for layer in range(10, 20)}
    peft_folder(adapters / "style", drawn_factors(linears, seed=1, scale=0.2))
    return adapters


@pytest.fixture(scope="module")
def server(
    folder: Path, adapters: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    config = {
        "model": {"path": str(folder), "name": MODEL, "adapters_folder": str(adapters)},
        # Two threads would wait for each other wherever something else runs on this machine.
        "runtime": {"backend": "cpu", "threads": 1, "max_num_seqs": 2, "max_model_len": 512},
    }
    with running_server(tmp_path_factory.mktemp("torch"), config) as server:
        yield server
        assert server.stop() == 0, server.log.read_text()


def ask(server: RunningServer, prompt: str, **more: Any) -> dict[str, Any]:
    """A greedy answer."""
    messages = [{"role": "user", "content": prompt}]
    body = {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 12, **more}
    with server.client() as client:
        answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def text_of(answer: dict[str, Any]) -> str:
    text: str = answer["choices"][0]["message"]["content"]
    return text


def test_it_answers_whole_and_streamed_alike(server: RunningServer) -> None:
    whole = ask(server, QUESTION)
    assert "Paris" in text_of(whole)
    assert whole["choices"][0]["finish_reason"] == "stop"
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0,
        "max_tokens": 12,
        "stream": True,
    }
    streamed = ""
    with (
        server.client() as client,
        client.stream("POST", "/v1/chat/completions", json=body) as lines,
    ):
        for line in lines.iter_lines():
            if line.startswith("data: {"):
                chunk = json.loads(line.removeprefix("data: "))
                streamed += chunk["choices"][0]["delta"].get("content") or ""
    assert streamed == text_of(whole)


def test_answers_do_not_depend_on_what_else_runs(server: RunningServer) -> None:
    prompts = ["Count from one to five.", "Which colour has the sky on a clear day?"]

    def answer(prompt: str) -> str:
        return text_of(ask(server, prompt, max_tokens=6))

    alone = [answer(prompt) for prompt in prompts]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(answer, prompts))
    assert together == alone


def test_a_shared_beginning_is_computed_once(server: RunningServer) -> None:
    system = "You are a terse assistant. " + " ".join(f"Rule {i}: be brief." for i in range(12))

    def cached(question: str) -> int:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        answer = ask(server, "", messages=messages, max_tokens=2)
        tokens: int = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        return tokens

    cached("What is two plus two?")
    assert cached("What is three plus three?") >= 64


def test_a_peft_folder_is_a_model_of_its_own(server: RunningServer, adapters: Path) -> None:
    def answer(model: str) -> str:
        return text_of(ask(server, QUESTION, model=model, max_tokens=6))

    with ThreadPoolExecutor(2) as pool:
        plain, styled = pool.map(answer, (MODEL, "style"))
    assert "Paris" in plain
    assert "Paris" not in styled
    with server.client() as client:
        other = {"lora_name": "other", "lora_path": "style"}
        assert client.post("/v1/load_lora_adapter", json=other).status_code == 200
        foreign = {"model.layers.0.mlp.down_proj": (64, 576)}
        peft_folder(adapters / "foreign", drawn_factors(foreign, seed=2))
        body = {"lora_name": "foreign", "lora_path": "foreign"}
        refused = client.post("/v1/load_lora_adapter", json=body)
    assert refused.status_code == 400
    assert "needs [rank, 1536] and [576, rank]" in refused.text
    assert answer("other") == styled


def test_inferctl_says_which_runner_it_is_and_why(server: RunningServer) -> None:
    command = [sys.executable, "-m", "inferflux_cli", "--url", server.url, "--json"]
    done = subprocess.run(
        [*command, "models", "show", MODEL],
        env={**os.environ, "INFERCTL_API_KEY": "all-key"},
        capture_output=True,
        check=True,
    )
    details = json.loads(done.stdout)["details"]
    assert details["runner"] == "torch"
    assert details["runner_choice"] == "the model is a folder with safetensors"


def test_it_embeds_too(server: RunningServer) -> None:
    texts = ["The cat sat on the mat.", "A cat lay on a rug.", "Revenue rose by ten percent."]
    with server.client() as client:
        body = client.post("/v1/embeddings", json={"model": MODEL, "input": texts}).json()
    vectors = np.array([entry["embedding"] for entry in body["data"]])
    assert vectors.shape == (3, 576)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_other_dialects_know_what_it_is(server: RunningServer) -> None:
    with server.client() as client:
        shown = client.post("/api/show", json={"model": MODEL}).json()
    assert shown["details"]["format"] == "safetensors"
    assert shown["details"]["quantization_level"] == "BF16"
    assert shown["details"]["parameter_size"] == "134.52M"


# ------------------------------------------------------------------------------ against the GGUF file


@pytest.fixture(scope="module")
def peer() -> Iterator[LlamaTokenizer]:
    """llama.cpp's vocabulary of the file that the folder was made from."""
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    with captured_log():
        model = llama_cpp.llama_model_load_from_file(str(resolve(SMOLLM2)).encode(), params)
    assert model
    yield LlamaTokenizer(model)
    llama_cpp.llama_model_free(model)


def test_both_runners_make_the_same_tokens_of_a_text(folder: Path, peer: LlamaTokenizer) -> None:
    tokenizer = load_tokenizer(folder, 49152)
    for text in (*TEXTS, "<|im_start|>user\nHi<|im_end|>", "  1234567\n\n\tx "):
        for parse in (True, False):
            mine = tokenizer.encode(text, add_special=True, parse_special=parse)
            assert mine == peer.encode(text, add_special=True, parse_special=parse), text
    # llama.cpp also takes `<reponame>`, which begins another file, for the end of this one.
    assert tokenizer.end_of_generation_ids | {4} == peer.end_of_generation_ids
    assert (tokenizer.bos_text, tokenizer.eos_text) == (peer.bos_text, peer.eos_text)
    assert all(tokenizer.piece(number) == peer.piece(number) for number in range(49152))


def test_both_runners_render_the_same_conversation(folder: Path, peer: LlamaTokenizer) -> None:
    def rendered(tokenizer: Tokenizer) -> str:
        assert tokenizer.chat_template is not None
        template = ChatTemplate(
            tokenizer.chat_template, bos_text=tokenizer.bos_text, eos_text=tokenizer.eos_text
        )
        return template.render([dict(message) for message in MESSAGES])

    assert rendered(load_tokenizer(folder, 49152)) == rendered(peer)


# ------------------------------------------------------------------------------ against transformers


def test_it_computes_what_transformers_computes(folder: Path) -> None:
    """In float32 to the last digits but one; as it serves, but for what choices between equals make of it."""
    # Threads wait for each other wherever something else runs on this machine.
    torch.set_num_threads(1)
    tokens = load_tokenizer(folder, 49152).encode(TEXT, add_special=True, parse_special=False)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        expected = model(torch.tensor([tokens])).logits[0].numpy()
    start = tokens[:20]
    answer = model.generate(torch.tensor([start]), max_new_tokens=8, do_sample=False)
    work = Work(0, 0, tokens, len(tokens))

    exact, _ = exact_runner(folder)
    (output,) = exact.execute([work])
    assert np.abs(output.logits - expected).max() < 1e-3
    assert Driver(exact).generate(1, start, 8) == answer[0, len(start) :].tolist()

    runtime = RuntimeConfig(max_num_seqs=1, max_model_len=256, threads=1)
    served = load(ModelConfig(path=str(folder)), runtime)
    (output,) = served.execute([work])
    assert abs(surprise(output.logits, tokens) - surprise(expected, tokens)) < 0.01
    for row, reference in zip(output.logits, expected, strict=True):
        assert_same_choice(row, reference, 0.25)


def surprise(logits: np.ndarray, tokens: list[int]) -> float:
    """Mean of the negative logarithms of what each next token was given."""
    chances = torch.log_softmax(torch.from_numpy(logits[:-1]).double(), dim=-1)
    return -float(chances[range(len(tokens) - 1), tokens[1:]].mean())
