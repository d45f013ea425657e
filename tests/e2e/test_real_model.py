from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.servers import RunningServer

MODEL = "smollm2"
ROOT = Path(__file__).parents[2]
QUESTION = "Name the capital of France in one sentence."


@pytest.fixture(scope="module")
def openai_session(run_client: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """What the openai package, in an environment of its own, got to see."""
    return run_client("openai_chat.py")


def test_the_openai_package_hears_of_paris(openai_session: dict[str, Any]) -> None:
    assert "Paris" in openai_session["streamed"]
    assert openai_session["whole"] == openai_session["streamed"]
    assert openai_session["models"] == [MODEL]


def test_the_openai_package_counts_tokens(openai_session: dict[str, Any]) -> None:
    assert openai_session["usage"]["prompt_tokens"] == 39
    assert openai_session["usage"]["completion_tokens"] >= openai_session["logprobs"] > 3


def test_completions_continue(openai_session: dict[str, Any]) -> None:
    assert openai_session["completion"].strip().startswith("5, 6")


def test_the_openai_package_raises_what_it_should(openai_session: dict[str, Any]) -> None:
    assert openai_session["errors"] == {
        "authentication": "AuthenticationError",
        "not_found": "NotFoundError",
        "bad_request": "BadRequestError",
    }


def test_curl_streams(real_server: RunningServer) -> None:
    body = {"messages": [{"role": "user", "content": QUESTION}], "stream": True, "temperature": 0}
    done = subprocess.run(
        [
            "curl", "-sN", f"{real_server.url}/v1/chat/completions",
            "-H", "Authorization: Bearer all-key", "-d", json.dumps(body),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)
    assert "Paris" in text
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_inferctl_holds_a_conversation(real_server: RunningServer) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "inferflux_cli", "--port", str(real_server.port),
            "chat", "--interactive", "--temperature", "0", "--max-tokens", "24",
        ],
        input=f"{QUESTION}\nAnd of Italy?\n/exit\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "INFERCTL_API_KEY": "all-key"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout


def ask(server: RunningServer, prompt: str) -> list[dict[str, Any]]:
    """Greedy tokens with the two likeliest alternatives of each."""
    body = {
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": 16,
        "ignore_eos": True,
        "logprobs": True,
        "top_logprobs": 2,
    }
    with server.client() as client:
        answer = client.post("/v1/chat/completions", json=body).json()
    content: list[dict[str, Any]] = answer["choices"][0]["logprobs"]["content"]
    return content


def test_a_batch_differs_from_one_at_a_time_only_at_near_ties(real_server: RunningServer) -> None:
    """Kernels sum in another order in another batch. Where answers part, the two best tokens must lie
    closer together than that noise moves a logit; the noise is measured on what both runs share.
    """
    prompts = [f"Tell me about the number {i} and the city number {i * 7}." for i in range(32)]
    alone = [ask(real_server, prompt) for prompt in prompts]
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(lambda prompt: ask(real_server, prompt), prompts))

    noise = 0.0
    gaps = []
    for one, other in zip(alone, together, strict=True):
        for a, b in zip(one, other, strict=True):
            if a["token"] != b["token"]:
                first, second = a["top_logprobs"]
                gaps.append(first["logprob"] - second["logprob"])
                break
            noise = max(noise, abs(a["logprob"] - b["logprob"]))
    print(f"noise {noise:.4f}, {len(gaps)} of 32 answers part, at gaps {sorted(gaps)}")
    assert noise < 0.5
    assert all(gap <= 2 * noise for gap in gaps)


def test_a_shared_beginning_is_computed_once(real_server: RunningServer) -> None:
    """Of requests that come together with one long system prompt, one computes it; answers are equal."""
    system = "You are a terse assistant. " + " ".join(f"Rule {i}: be brief." for i in range(60))

    def ask_with(system: str, i: int) -> tuple[str, int]:
        messages = [
            {"role": "system", "content": system},
            {"role": "user", "content": f"What is {i} plus {i}?"},
        ]
        body = {"messages": messages, "temperature": 0, "max_tokens": 8}
        with real_server.client() as client:
            answer = client.post("/v1/chat/completions", json=body).json()
        cached: int = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        return answer["choices"][0]["message"]["content"], cached

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda i: ask_with(system, i), range(8)))
    again = [ask_with(system, i) for i in range(8)]

    # Full blocks at least; those that followed another got all they have in common.
    assert min(sorted(cached for _, cached in together)[1:]) >= 448
    assert together[-1][1] > 300
    assert all(cached >= 448 for _, cached in again)
    assert sum(a == b for (a, _), (b, _) in zip(together, again, strict=True)) >= 7
