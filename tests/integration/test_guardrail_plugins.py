"""Guardrails that judge whole texts, in a server: by Rego and Cedar in process, and by a webhook."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.policy_servers import PolicyServer, policy_server
from support.servers import RunningServer, running_server

REGO = """
package inferflux

allow if not bad

bad if { input.direction == "prompt"; contains(input.text, "xyzzy") }
bad if { input.direction == "output"; contains(input.text, "swordfish") }
bad if { fails; to_number(input.text) > 1 }

fails if { input.direction == "prompt"; contains(input.text, "fail early") }
fails if { input.direction == "output"; contains(input.text, "fail late") }
"""
CEDAR = """
permit (principal, action, resource);

forbid (principal, action == Action::"prompt", resource) when { context.text like "*xyzzy*" };
forbid (principal, action == Action::"output", resource) when { context.text like "*swordfish*" };
forbid (principal, action == Action::"prompt", resource)
when { context.text like "*fail early*" && context.absent };
forbid (principal, action == Action::"output", resource)
when { context.text like "*fail late*" && context.absent };
"""


def webhook(question: dict[str, Any]) -> tuple[int, bytes]:
    text, prompt = question["text"], question["direction"] == "prompt"
    if ("fail early" if prompt else "fail late") in text:
        return 500, b"{}"
    if ("xyzzy" if prompt else "swordfish") in text:
        return 200, b'{"action": "block"}'
    if prompt and "plugh" in text:
        return 200, b'{"action": "flag", "category": "magic"}'
    return 200, b'{"action": "allow"}'


def options(name: str, folder: Path, hook: PolicyServer) -> dict[str, Any]:
    if name == "webhook":
        return {"endpoint": hook.url, "timeout": 10, "secret": "${env:HOOK_SECRET}"}
    file = folder / f"policy.{name}"
    file.write_text({"rego": REGO, "cedar": CEDAR}[name])
    return {"policies": [str(file)], **({"timeout": 10} if name == "rego" else {})}


@pytest.fixture(scope="module")
def hook() -> Iterator[PolicyServer]:
    with policy_server() as running:
        running.answer = webhook
        yield running


@pytest.fixture(scope="module", params=["rego", "cedar", "webhook"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(
    name: str, tmp_path_factory: pytest.TempPathFactory, hook: PolicyServer
) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp(name)
    guardrails = {"enabled": [name], "options": {name: options(name, folder, hook)}}
    config = {
        "runtime": {"backend": "scripted", "max_model_len": 4096},
        "guardrails": guardrails,
    }
    with running_server(folder, config, {"HOOK_SECRET": "sixteen letters!"}) as running:
        yield running
        assert running.stop() == 0, running.log.read_text()


def ask(server: RunningServer, prompt: str, *, stream: bool = False) -> httpx2.Response:
    message = {"role": "user", "content": prompt}
    content = {"messages": [message], "stream": stream, "max_tokens": 200, "temperature": 0}
    with server.client() as client:
        return client.post("/v1/chat/completions", json=content)


def test_a_prompt_that_is_not_allowed_is_refused(server: RunningServer, name: str) -> None:
    response = ask(server, "say xyzzy", stream=True)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["code"] == "content_filter"
    assert f"({name})" in response.json()["error"]["message"]
    assert "xyzzy" not in response.text


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_not_allowed_never_leaves(server: RunningServer, stream: bool) -> None:
    response = ask(server, "[say]So, a swordfish.[/say]", stream=stream)
    assert response.status_code == 200, response.text
    assert '"finish_reason":"content_filter"' in response.text
    assert "So" not in response.text
    assert "sword" not in response.text


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_allowed_leaves(server: RunningServer, stream: bool) -> None:
    response = ask(server, "[say]All is well.[/say]", stream=stream)
    assert response.status_code == 200, response.text
    assert "All is well." in response.text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("when", ["early", "late"])
def test_without_a_verdict_nothing_passes(
    server: RunningServer, name: str, when: str, stream: bool
) -> None:
    response = ask(server, f"[say]So, fail {when} [/say]", stream=stream)
    assert response.status_code == 503, response.text
    assert response.json()["error"]["code"] == "guardrail_error"
    assert f"guardrail '{name}' failed" in server.log.read_text()
    assert "So, fail" not in response.text + server.log.read_text()


@pytest.mark.parametrize("name", ["webhook"], indirect=True)
def test_what_a_webhook_flags_passes_with_a_header(server: RunningServer) -> None:
    response = ask(server, "[say]plugh[/say]")
    assert "plugh" in response.text
    assert response.headers["x-inferflux-flagged"] == "webhook"
    assert "(webhook.magic)" in server.log.read_text()


@pytest.mark.parametrize("name", ["webhook"], indirect=True)
def test_secrets_of_a_webhook_are_told_to_nobody(server: RunningServer) -> None:
    with server.client() as client:
        told = client.get("/v1/admin/guardrails")
    assert told.status_code == 200, told.text
    assert "webhook" in told.text
    assert "sixteen" not in told.text + server.log.read_text()


def test_another_server_can_be_the_moderation_service(tmp_path: Path) -> None:
    runtime = {"runtime": {"backend": "scripted"}}
    with ExitStack() as stack:
        judge = stack.enter_context(
            running_server(tmp_path, {**runtime, "guardrails": {"blocklist": ["swordfish"]}})
        )
        asked = {
            "endpoint": f"{judge.url}/v1/moderations",
            "format": "openai-moderation",
            "api_key": "${env:JUDGE_KEY}",
            "timeout": 10,
        }
        guardrails = {"enabled": ["webhook"], "options": {"webhook": asked}}
        server = stack.enter_context(
            running_server(
                tmp_path, {**runtime, "guardrails": guardrails}, {"JUDGE_KEY": "all-key"}
            )
        )
        refused, allowed = ask(server, "a SwordFish"), ask(server, "[say]Fine.[/say]")
    assert refused.status_code == 400
    assert "(webhook.guardrail.blocklist)" in refused.json()["error"]["message"]
    assert allowed.json()["choices"][0]["message"]["content"] == "Fine."


def test_a_policy_that_does_not_parse_stops_the_start(tmp_path: Path) -> None:
    policy = tmp_path / "broken.rego"
    policy.write_text("package inferflux\n\nallow if {")
    guardrails = {"enabled": ["rego"], "options": {"rego": {"policies": [str(policy)]}}}
    with (
        pytest.raises(AssertionError, match=r"broken\.rego, line 3: "),
        running_server(tmp_path, {"runtime": {"backend": "scripted"}, "guardrails": guardrails}),
    ):
        pass
