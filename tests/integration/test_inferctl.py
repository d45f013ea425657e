"""The command line client against a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.registry import running_registry
from support.servers import RunningServer, running_server
from support.tiny_gguf import write_gguf

WEATHER = "import json, sys; print('[say]Sunny in ' + json.load(sys.stdin)['city'] + '.[/say]')"
CALL = '[say]<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>[/say]'


@dataclass
class Inferctl:
    """Runs the client."""

    server: RunningServer

    def __call__(self, *arguments: str, key: str = "all-key", code: int = 0) -> tuple[str, str]:
        """Run a command that ends with `code`; return stdout and stderr."""
        done = subprocess.run(
            [sys.executable, "-m", "inferflux_cli", "--port", str(self.server.port), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "INFERCTL_API_KEY": key},
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout, done.stderr

    def lines(self, *arguments: str) -> list[Any]:
        """The lines of a command's JSON."""
        out, err = self(*arguments, "--output", "json")
        assert err == ""
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inferctl")


@pytest.fixture(scope="module")
def inferctl(folder: Path) -> Iterator[Inferctl]:
    with running_registry() as registry:
        registry.add("tiny", write_gguf(folder / "tiny.gguf").read_bytes(), license="MIT")
        config = {
            "model": {"path": str(write_gguf(folder / "own.gguf", fill=9)), "name": "own"},
            "runtime": {"backend": "scripted", "max_model_len": 2048},
            "library": {"path": str(folder / "library"), "registry": registry.url},
        }
        with running_server(folder, config) as server:
            yield Inferctl(server)


@pytest.mark.parametrize("stream", [(), ("--stream",)])
def test_a_model_calls_a_tool(inferctl: Inferctl, folder: Path, stream: tuple[str, ...]) -> None:
    tools = folder / "tools.json"
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    function = {"name": "weather", "parameters": parameters}
    command = [sys.executable, "-c", WEATHER]
    tools.write_text(json.dumps([{"type": "function", "function": function, "command": command}]))

    out, err = inferctl("chat", "--message", CALL, "--tools", str(tools), "--yes", *stream)

    assert (out, err) == ("Sunny in Oslo.\n", 'call weather {"city": "Oslo"}\n')


def test_responses_are_kept_continued_and_forgotten(inferctl: Inferctl) -> None:
    out, err = inferctl("responses", "[say]first[/say]")
    name = err.removeprefix("response id: ").strip()
    (second,) = inferctl.lines("responses", "[say]second[/say]", "--previous", name, "--no-stream")

    assert out == "first\n"
    assert second["previous_response_id"] == name
    assert second["output"][0]["content"][0]["text"] == "second"
    assert inferctl("responses", "--get", name)[0] == "first\n"
    assert inferctl("responses", "--delete", name)[0] == f"{name} deleted\n"
    assert "there is no response" in inferctl("responses", "--get", name, code=1)[1]


def test_one_in_the_background_is_cancelled(inferctl: Inferctl) -> None:
    (begun,) = inferctl.lines("responses", "[slow] Tell me much.", "--background")

    assert inferctl("responses", "--cancel", begun["id"])[0] == f"{begun['id']} cancelled\n"


def test_embeddings(inferctl: Inferctl) -> None:
    first, second = inferctl.lines("embed", "aab", "b")

    assert first["embedding"][ord("a")] > first["embedding"][ord("b")] > 0
    assert second["embedding"][ord("b")] == 1


def test_a_model_comes_and_goes(inferctl: Inferctl) -> None:
    assert inferctl.lines("models", "pull", "tiny")[-1] == {"status": "success"}
    assert inferctl("models", "cp", "tiny", "copy")[0] == "tiny copied to copy\n"
    (shown,) = inferctl.lines("models", "show", "copy")
    assert shown["about"]["license"] == "MIT"
    assert (
        "scope `models:write`"
        in inferctl("models", "rm", "copy", "--yes", key="read-key", code=4)[1]
    )
    for name in ("copy", "tiny"):
        assert inferctl("models", "rm", name, "--yes")[0] == f"{name} deleted\n"
    assert [model["id"] for model in inferctl.lines("models", "list")[0]["data"]] == ["own"]
    assert "file does not exist" in inferctl("models", "pull", "nothing", code=1)[1]


@pytest.mark.parametrize(
    ("path", "body", "last"),
    [
        ("/v1/chat/completions", {"stream": True}, "[DONE]"),
        ("/v1/messages", {"stream": True, "max_tokens": 9}, '{"type":"message_stop"}'),
        ("/api/chat", {}, '"done":true}'),
    ],
)
def test_streams_of_every_dialect_are_seen_kept_and_played(
    inferctl: Inferctl, tmp_path: Path, path: str, body: dict[str, Any], last: str
) -> None:
    messages = [{"role": "user", "content": "[say]abc[/say]"}]
    data = json.dumps({"model": "own", "messages": messages, **body})
    file = tmp_path / "kept.jsonl"

    seen = inferctl.lines("sse", path, "--data", data, "--record", str(file))

    assert len(seen) > 1
    assert seen[-1]["data"].endswith(last)
    assert inferctl.lines("sse", "--play", str(file), "--fast") == seen
