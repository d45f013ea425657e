"""The real model as a folder of safetensors, run by MLX on the processor."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.hf_folders import SMOLLM2
from support.servers import RunningServer, running_server

from inferflux_core.models.reference import resolve
from inferflux_gguf.to_folder import convert

pytestmark = pytest.mark.slow

MODEL = "smollm2"
QUESTION = "Name the capital of France in one sentence."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("mlx") / "SmolLM2-135M"
    folder.mkdir()
    convert(resolve(SMOLLM2), folder, "bf16", lambda share: None)
    config = {
        "model": {"path": str(folder), "name": MODEL},
        "runtime": {"backend": "mlx-cpu", "max_num_seqs": 4, "max_model_len": 512},
    }
    with running_server(folder.parent, config) as server:
        yield server
        assert server.stop() == 0, server.log.read_text()


def ask(server: RunningServer, prompt: str, max_tokens: int) -> str:
    """A greedy answer."""
    messages = [{"role": "user", "content": prompt}]
    body = {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": max_tokens}
    with server.client() as client:
        answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


def test_it_answers_the_same_alone_and_in_company(server: RunningServer) -> None:
    alone = ask(server, QUESTION, 12)
    assert "Paris" in alone
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(ask, server, "Count from one to five.", 6)
        assert ask(server, QUESTION, 12) == alone
        assert other.result()


def test_it_says_that_it_is_no_gpu(server: RunningServer) -> None:
    log = server.log.read_text()
    assert "MLX on the processor: slow, and meant for tests" in log
    assert "is ready after" in log
    assert "on CPU, with MLX" in log
