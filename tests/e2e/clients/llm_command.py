"""The llm program, with a model of ours in its configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

url, key, model = sys.argv[1:]
schema = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "capital": {"type": "boolean"}},
    "required": ["name", "capital"],
    "additionalProperties": False,
}


def run(*arguments: str, ok: bool = True) -> str:
    program = Path(sys.executable).with_name("llm")
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=100, env=environment
    )
    assert (done.returncode == 0) == ok, done.stderr
    return (done.stdout if ok else done.stderr).strip()


with tempfile.TemporaryDirectory() as folder:
    environment = {**os.environ, "LLM_USER_PATH": folder, "INFERFLUX_KEY": key}
    Path(folder, "extra-openai-models.yaml").write_text(
        f"- model_id: ours\n  model_name: {model}\n  api_base: {url}/v1\n  api_key_name: inferflux\n"
        "  supports_schema: true\n  supports_tools: true\n"
        f"- model_id: missing\n  model_name: missing\n  api_base: {url}/v1\n  api_key_name: inferflux\n"
    )
    Path(folder, "keys.json").write_text(json.dumps({"inferflux": key}))
    options = ("-o", "temperature", "0", "-o", "max_tokens", "24")
    wordy = ("-o", "temperature", "0", "-o", "max_tokens", "160")
    question = "Name the capital of France in one sentence."
    seen = {
        "streamed": run("-m", "ours", *options, question),
        "whole": run("-m", "ours", "--no-stream", *options, question),
        "continued": run("-m", "ours", "-c", *options, "And of Italy?"),
        "formatted": json.loads(
            run("-m", "ours", "--schema", json.dumps(schema), *wordy, question)
        ),
        "logged": len(json.loads(run("logs", "--json", "-n", "0"))),
        "missing": run("-m", "missing", "hello", ok=False),
    }
print(json.dumps(seen))
