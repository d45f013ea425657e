"""Guardrails over every dialect: text, reasoning and calls, streamed or not; actions; failures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.policy_servers import PolicyServer, policy_server
from support.servers import RunningServer, running_server

RUNTIME = {"backend": "scripted", "max_model_len": 4096}
MODELS = [{"name": name, "path": "m.gguf"} for name in ("scripted", "thinks")]

SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}
FUNCTION = {"name": "look", "description": "Looks.", "parameters": SCHEMA}
TOOL = {"type": "function", "function": FUNCTION}

ENDS = {
    "/v1/chat/completions": '"finish_reason":"content_filter"',
    "/v1/completions": '"finish_reason":"content_filter"',
    "/v1/responses": '"incomplete_details":{"reason":"content_filter"}',
    "/v1/messages": '"stop_reason":"refusal"',
    "/api/chat": '"done_reason":"content_filter"',
    "/api/generate": '"done_reason":"content_filter"',
    "/api/v0/chat/completions": '"finish_reason":"content_filter"',
    "/api/v0/completions": '"finish_reason":"content_filter"',
    "/api/v1/chat": "a guardrail of this server cut the answer off",
}
"""How each dialect says that a guardrail cut an answer off."""

TOOLS: dict[str, Any] = {
    "/v1/chat/completions": TOOL,
    "/v1/responses": {"type": "function", **FUNCTION},
    "/v1/messages": {"name": "look", "description": "Looks.", "input_schema": SCHEMA},
    "/api/chat": TOOL,
    "/api/v0/chat/completions": TOOL,
}
"""A tool as each dialect that has tools writes it."""

SAID = {
    "text": ("scripted", "So, a swordfish."),
    "reasoning": ("thinks", "So, a swordfish.\n</think>\n\nFine."),
    "call": (
        "scripted",
        '<tool_call>\n{"name": "look", "arguments": {"q": "a swordfish"}}\n</tool_call>',
    ),
    "escaped call": (
        "scripted",
        '<tool_call>\n{"name": "look", "arguments": {"q": "a \\u0073wordfish"}}\n</tool_call>',
    ),
}
CASES = [
    pytest.param(path, what, stream, id=f"{path} {what}{' streamed' if stream else ''}")
    for path in ENDS
    for what in SAID
    for stream in (False, True)
    if "call" not in what or path in TOOLS
]


def body(path: str, says: str, **fields: Any) -> dict[str, Any]:
    """A request of that dialect whose answer is dictated."""
    prompt = f"[say]{says}[/say]"
    if path in ("/v1/completions", "/api/v0/completions", "/api/generate"):
        content: dict[str, Any] = {"prompt": prompt}
    elif path in ("/v1/responses", "/api/v1/chat"):
        content = {"input": prompt}
    else:
        content = {"messages": [{"role": "user", "content": prompt}]}
    if not path.startswith("/api/chat") and path not in (
        "/api/generate",
        "/v1/responses",
        "/api/v1/chat",
    ):
        content["max_tokens"] = 200
    return {**content, "temperature": 0, **fields}


def status(path: str, *, stream: bool) -> int:
    """Of an answer that was cut off: LM Studio's newer API has no other way to say so."""
    return 400 if path == "/api/v1/chat" and not stream else 200


def post(server: RunningServer, path: str, content: dict[str, Any]) -> httpx2.Response:
    with server.client() as client:
        return client.post(path, json=content)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("guardrails")
    (folder / "m.gguf").touch()
    guardrails = {"enabled": ["blocklist", "scripted"], "blocklist": ["xyzzy", "12345678"]}
    config = {"models": MODELS, "runtime": RUNTIME, "guardrails": guardrails}
    with running_server(folder, config) as running:
        yield running
        assert running.stop() == 0, running.log.read_text()


@pytest.mark.parametrize(("path", "what", "stream"), CASES)
def test_a_forbidden_word_never_leaves(
    server: RunningServer, path: str, what: str, stream: bool
) -> None:
    model, says = SAID[what]
    fields = {"tools": [TOOLS[path]]} if "call" in what else {}
    response = post(server, path, body(path, says, model=model, stream=stream, **fields))
    assert response.status_code == status(path, stream=stream), response.text
    assert ENDS[path] in response.text.replace('": ', '":'), response.text
    for part in ("sword", "wordfish", "a sw"):
        assert part not in response.text, response.text


@pytest.mark.parametrize("path", TOOLS)
@pytest.mark.parametrize("stream", [False, True])
def test_innocent_calls_pass_whole(server: RunningServer, path: str, stream: bool) -> None:
    says = 'S <tool_call>\n{"name": "look", "arguments": {"q": "a sword"}}\n</tool_call>'
    content = body(path, says, model="scripted", stream=stream, tools=[TOOLS[path]])
    response = post(server, path, content)
    assert response.status_code == 200, response.text
    assert "a sword" in response.text
    assert "content_filter" not in response.text
    assert response.text.index('"S') < response.text.index("a sword")


def call_in_history(arguments: str) -> dict[str, Any]:
    function = {"name": "look", "arguments": arguments}
    call = {"id": "call_1", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def tool(**changes: Any) -> dict[str, Any]:
    return {"type": "function", "function": {**FUNCTION, **changes}}


@pytest.mark.parametrize(
    "fields",
    [
        {"before": [call_in_history('{"q": "xy\\u007azy"}')]},
        {"before": [call_in_history('{"xyzzy": 1}')]},
        {"before": [call_in_history('{"n": 12345678}')]},
        {
            "before": [
                call_in_history("{}"),
                {"role": "tool", "tool_call_id": "call_1", "content": "it says XYZZY"},
            ]
        },
        {"before": [{"role": "user", "content": [{"type": "text", "text": "xy\u200bzzy"}]}]},
        {
            "before": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "xy"}, {"type": "text", "text": "zzy"}],
                }
            ]
        },
        {"tools": [tool(description="Do xyzzy.")]},
        {
            "tools": [
                tool(parameters={"type": "object", "properties": {"xyzzy": {"type": "string"}}})
            ]
        },
        {"tools": [tool(parameters={"type": "object", "description": "xyzzy"})]},
        {"tools": [tool(name="xyzzy")]},
    ],
)
def test_a_forbidden_word_never_reaches_the_model(
    server: RunningServer, fields: dict[str, Any]
) -> None:
    content = body("/v1/chat/completions", "Fine.", model="scripted", **fields)
    content["messages"] = [*content.pop("before", []), *content["messages"]]
    response = post(server, "/v1/chat/completions", content)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["code"] == "content_filter"
    assert "xyzzy" not in response.text.lower()


@pytest.mark.parametrize("path", ENDS)
def test_a_refused_prompt_is_a_bad_request_everywhere(server: RunningServer, path: str) -> None:
    response = post(server, path, body(path, "xyzzy", model="scripted", stream=True))
    assert response.status_code == 400, response.text
    assert "content policy" in response.text
    assert "xyzzy" not in response.text


@pytest.mark.parametrize("path", ENDS)
def test_a_guardrail_that_fails_refuses_everywhere(server: RunningServer, path: str) -> None:
    response = post(server, path, body(path, "[guardrail fails]", model="scripted"))
    assert response.status_code == 503, response.text
    assert "scripted" in response.text


def test_what_guardrails_did_is_counted(server: RunningServer) -> None:
    post(server, "/v1/completions", body("/v1/completions", "a swordfish", model="scripted"))
    with server.client() as client:
        metrics = client.get("/metrics").text
    for line in (
        'inferflux_guardrail_findings_total{action="block",direction="output",guardrail="scripted"}',
        'inferflux_guardrail_findings_total{action="block",direction="prompt",guardrail="blocklist"}',
        'inferflux_guardrail_failures_total{action="block",direction="prompt",guardrail="scripted"}',
    ):
        assert line in metrics


def serving(folder: Path, **guardrails: Any) -> Any:
    return running_server(folder, {"runtime": RUNTIME, "guardrails": guardrails})


@pytest.mark.parametrize("stream", [False, True])
def test_actions_and_failures_by_configuration(tmp_path: Path, stream: bool) -> None:
    options = {
        "blocklist": {"action": "mask"},
        "pii": {"action": "flag"},
        "scripted": {"on_failure": "allow", "action": "log"},
    }
    names = ["blocklist", "pii", "scripted"]
    with serving(tmp_path, enabled=names, blocklist=["xyzzy"], options=options) as server:
        path = "/v1/chat/completions"
        says = "xyzzy me@example.com swordfish [guardrail fails]"
        response = post(server, path, body(path, says, stream=stream))
        log = server.log.read_text()
        with server.client() as client:
            metrics = client.get("/metrics").text
    said = "".join(json.loads(f'"{part}"') for part in _contents(response.text))
    assert said == "[REDACTED] me@example.com swordfish [guardrail fails]"
    assert response.headers["x-inferflux-flagged"] == "pii"
    assert "'scripted' objects to the output" in log
    assert "'scripted' failed; the text was let through" in log
    assert "me@example" not in log
    for action, direction, name in (
        ("mask", "prompt", "blocklist"),
        ("flag", "output", "pii"),
        ("log", "output", "scripted"),
    ):
        labels = f'action="{action}",direction="{direction}",guardrail="{name}"'
        assert f"inferflux_guardrail_findings_total{{{labels}}} 1.0" in metrics
    assert 'failures_total{action="allow",direction="prompt",guardrail="scripted"} 1.0' in metrics


def _contents(text: str) -> list[str]:
    return [part.split('"')[0] for part in text.split('"content":"')[1:]]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"blocklist": {"action": "shout"}}, "guardrails.options.blocklist.action"),
        ({"scripted": {"action": "mask"}}, "guardrails.options.scripted"),
        ({"pii": {"on_failure": "hope"}}, "guardrails.options.pii.on_failure"),
    ],
)
def test_what_a_guardrail_cannot_do_stops_the_start(
    tmp_path: Path, options: dict[str, Any], complaint: str
) -> None:
    names = ["blocklist", "pii", "scripted"]
    with (
        pytest.raises(AssertionError, match=complaint),
        serving(tmp_path, enabled=names, blocklist=["a"], options=options),
    ):
        pass


# ----------------------------------------------------------------------------- a policy server


@pytest.fixture(scope="module")
def policy() -> Iterator[PolicyServer]:
    with policy_server() as running:
        yield running


@pytest.fixture(scope="module")
def asking(
    tmp_path_factory: pytest.TempPathFactory, policy: PolicyServer
) -> Iterator[RunningServer]:
    """Asks about answers only, so that prompts can dictate them; prompts are another server's."""
    options = {"opa": {"checks": ["output"], "timeout": 5, "cache_seconds": 0}}
    folder = tmp_path_factory.mktemp("opa")
    (folder / "m.gguf").touch()
    guardrails = {"opa_endpoint": policy.url, "options": options}
    config = {"models": MODELS, "runtime": RUNTIME, "guardrails": guardrails}
    with running_server(folder, config) as running:
        yield running
        assert running.stop() == 0, running.log.read_text()


@pytest.mark.parametrize(
    ("path", "what", "stream"),
    [case for case in CASES if case.values[2] and case.values[1] != "call"],
)
def test_nothing_leaves_that_the_policy_does_not_allow(
    asking: RunningServer, path: str, what: str, stream: bool
) -> None:
    model, says = SAID[what]
    fields = {"tools": [TOOLS[path]]} if "call" in what else {}
    response = post(asking, path, body(path, says, model=model, stream=stream, **fields))
    assert response.status_code == status(path, stream=stream), response.text
    assert ENDS[path] in response.text.replace('": ', '":'), response.text
    assert "So" not in response.text
    assert "a sw" not in response.text


@pytest.mark.parametrize("path", ENDS)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_policy_allows_leaves(asking: RunningServer, path: str, stream: bool) -> None:
    content = body(path, "All is well.", model="scripted", stream=stream)
    response = post(asking, path, content)
    assert response.status_code == 200, response.text
    assert "All is well." in response.text


def test_a_policy_about_prompts(tmp_path: Path, policy: PolicyServer) -> None:
    options = {"opa": {"timeout": 5, "cache_seconds": 0}}
    with serving(tmp_path, opa_endpoint=policy.url, options=options) as server:
        path = "/v1/chat/completions"
        asked = len(policy.questions)
        refused = post(server, path, body(path, "swordfish"))
        allowed = post(server, path, body(path, "Hello."))
        embedded = post(server, "/v1/embeddings", {"input": "a swordfish"})
        rated = post(server, "/v1/moderations", {"input": ["a swordfish", "fine"]})
    assert refused.status_code == embedded.status_code == 400
    assert "opa.codename" in refused.json()["error"]["message"]
    assert allowed.json()["choices"][0]["message"]["content"] == "Hello."
    assert [result["flagged"] for result in rated.json()["results"]] == [True, False]
    questions = [question["input"] for question in policy.questions[asked:]]
    assert [question["direction"] for question in questions] == ["prompt", "prompt", "output"] + [
        "prompt"
    ] * 3
    assert questions[2]["text"] == "Hello."


@pytest.mark.parametrize("on_failure", ["block", "allow"])
def test_a_policy_server_that_is_down(tmp_path: Path, on_failure: str) -> None:
    options = {"opa": {"on_failure": on_failure}}
    path = "/v1/chat/completions"
    with serving(tmp_path, opa_endpoint="http://127.0.0.1:9/v1/data/a", options=options) as server:
        responses = [post(server, path, body(path, "Hello.")) for _ in range(7)]
        log = server.log.read_text()
    assert {response.status_code for response in responses} == {
        503 if on_failure == "block" else 200
    }
    assert "guardrail 'opa' failed" in log
    assert "asked again soon" in log, "the breaker is open"
