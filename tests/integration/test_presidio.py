"""The guardrail `presidio` in a server, with the real Presidio."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.presidio_environment import module_path
from support.servers import RunningServer, environment, running_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def env(request: pytest.FixtureRequest) -> dict[str, str]:
    path = [environment()["PYTHONPATH"], str(module_path(request.config))]
    return {"PYTHONPATH": os.pathsep.join(path)}


def serving(folder: Path, env: dict[str, str], **options: Any) -> Any:
    guardrails = {"enabled": ["presidio"], "options": {"presidio": options}}
    config = {
        "runtime": {"backend": "scripted", "max_model_len": 8192},
        "guardrails": guardrails,
    }
    return running_server(folder, config, env)


def ask(server: RunningServer, prompt: str, *, stream: bool = False) -> httpx2.Response:
    message = {"role": "user", "content": prompt}
    content = {"messages": [message], "stream": stream, "max_tokens": 200, "temperature": 0}
    with server.client() as client:
        return client.post("/v1/chat/completions", json=content)


def test_prompts_with_personal_data_are_refused(tmp_path: Path, env: dict[str, str]) -> None:
    with serving(tmp_path, env, max_bytes=1024) as server:
        refused = ask(server, "I am ada@example.org")
        too_long = ask(server, "a " * 1024)
        allowed = ask(server, "[say]Fine.[/say]")
        log = server.log.read_text()
        assert server.stop() == 0
    assert refused.status_code == 400
    assert "(presidio.email_address)" in refused.json()["error"]["message"]
    assert "ada@" not in refused.text + log
    assert too_long.status_code == 503
    assert "guardrail 'presidio' failed" in log
    assert allowed.json()["choices"][0]["message"]["content"] == "Fine."


def test_answers_with_personal_data_never_leave(tmp_path: Path, env: dict[str, str]) -> None:
    with serving(tmp_path, env, checks=["output"]) as server:
        cut = ask(server, "[say]So, write to ada@example.org[/say]", stream=True)
        whole = ask(server, "[say]So, write to nobody.[/say]", stream=True)
    assert cut.status_code == 200
    assert '"finish_reason":"content_filter"' in cut.text
    assert "So" not in cut.text
    assert "ada" not in cut.text
    assert '"finish_reason":"stop"' in whole.text
