from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from inferflux_api.dialects.lmstudio.sdk.config import PredictionConfig, load_context_length
from inferflux_api.dialects.lmstudio.sdk.history import plain_text, template_messages
from inferflux_api.dialects.lmstudio.sdk.login import credentials, identify
from inferflux_api.governance.authentication import Access, ApiKeys, Authenticator
from inferflux_core.config.schema import ApiKeyConfig
from inferflux_core.errors import AuthenticationError, InvalidRequestError

TOKEN = "sk-lm-abcd1234:abcdefghij0123456789"
KEYS = [(TOKEN, "theirs"), ("ours", "ours")]
HALVES = {"clientIdentifier": "abcd1234", "clientPasskey": "abcdefghij0123456789"}


def stack(*fields: tuple[str, Any], layer: str = "apiOverride") -> dict[str, Any]:
    config = {"fields": [{"key": key, "value": value} for key, value in fields]}
    return {"layers": [{"layerName": layer, "config": config}]}


def setting(name: str, value: Any) -> PredictionConfig:
    return PredictionConfig(stack((f"llm.prediction.{name}", value)))


@pytest.fixture
def authenticator() -> Authenticator:
    keys = [ApiKeyConfig(key=key, name=name, scopes=["read"]) for key, name in KEYS]
    return Authenticator([None], Access(ApiKeys(keys)))


@pytest.mark.parametrize(
    ("headers", "frame", "subject"),
    [
        ({}, HALVES, "theirs"),
        ({}, {"clientPasskey": "ours"}, "ours"),
        ({}, {"clientPasskey": TOKEN}, "theirs"),
        ({"authorization": f"Bearer {TOKEN}"}, {}, "theirs"),
        ({"authorization": "Basic " + base64.b64encode(b"user:ours").decode()}, HALVES, "ours"),
        ({"x-api-key": "ours"}, {}, "ours"),
        ({"authorization": "Bearer wrong"}, {"clientPasskey": "ours"}, "ours"),
    ],
)
def test_a_key_comes_in_many_ways(
    authenticator: Authenticator, headers: dict[str, str], frame: dict[str, Any], subject: str
) -> None:
    assert asyncio.run(identify(authenticator, headers, frame)).subject == subject


@pytest.mark.parametrize(
    ("headers", "frame"),
    [
        ({}, {}),
        ({}, {"clientIdentifier": "ours", "clientPasskey": ""}),
        ({}, {"clientIdentifier": "ours", "clientPasskey": "wrong"}),
        ({}, {"clientIdentifier": ["ours"], "clientPasskey": {"ours": 1}}),
        ({"authorization": "ours"}, {}),
        ({"authorization": "Basic ours"}, {}),
        ({"authorization": "Basic \xe4\xf6"}, {}),
        ({"authorization": "Basic " + base64.b64encode(b"\xff:ours").decode()}, {}),
        ({"authorization": "Bearer "}, {}),
    ],
)
def test_nothing_else_is_a_key(
    authenticator: Authenticator, headers: dict[str, str], frame: dict[str, Any]
) -> None:
    with pytest.raises(AuthenticationError, match="no valid API key"):
        asyncio.run(identify(authenticator, headers, frame))


def test_an_empty_frame_holds_no_credential() -> None:
    assert not list(credentials({}, {}))


def test_settings_become_parameters() -> None:
    config = PredictionConfig(
        stack(
            ("llm.prediction.temperature", 0.5),
            ("llm.prediction.topKSampling", 40.0),
            ("llm.prediction.stopStrings", ["a", "b"]),
            ("llm.prediction.maxPredictedTokens", {"checked": True, "value": 7}),
            ("llm.prediction.topPSampling", {"checked": True, "value": 0.9}),
            ("llm.prediction.minPSampling", {"checked": False, "value": 0.9}),
            ("llm.prediction.repeatPenalty", 1.1),
            ("llm.prediction.llama.cpuThreads", 4),
        )
    )
    params = config.params()

    assert (params.temperature, params.top_k, params.stop) == (0.5, 40, ["a", "b"])
    assert (params.max_tokens, params.top_p, params.repetition_penalty) == (7, 0.9, 1.1)
    assert params.min_p == PredictionConfig(None).params().min_p
    assert not config.completes


def test_minus_one_token_is_as_many_as_there_are() -> None:
    unlimited = setting("maxPredictedTokens", {"checked": True, "value": -1}).params()

    assert unlimited.max_tokens == PredictionConfig(None).params().max_tokens


def test_the_layer_of_completions_tells_that_a_text_is_continued() -> None:
    template = ("llm.prediction.promptTemplate", {"type": "jinja"})

    assert PredictionConfig(stack(template, layer="completeModeFormatting")).completes
    with pytest.raises(InvalidRequestError):
        PredictionConfig(stack(template))


def test_tools_may_be_forced() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    free = setting("tools", {"type": "toolArray", "tools": [tool]}).tools()
    forced = setting("tools", {"type": "toolArray", "tools": [tool], "force": True}).tools()

    assert [each.name for each in free.tools] == ["f"]
    assert (free.choice, forced.choice) == ("auto", "required")
    assert not setting("tools", {"type": "none"}).tools().tools


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"type": "json", "jsonSchema": {"type": "array"}}, "json_schema"),
        ({"type": "json"}, "json_schema"),
        ({"type": "gbnf", "gbnfGrammar": 'root ::= "a"'}, "grammar"),
    ],
)
def test_structure_becomes_a_constraint(value: dict[str, Any], kind: str) -> None:
    constraint = setting("structured", value).params().constraint

    assert constraint is not None
    assert constraint.kind == kind


def test_no_structure_is_no_constraint() -> None:
    assert setting("structured", {"type": "none"}).params().constraint is None


@pytest.mark.parametrize(
    ("settings", "length"),
    [
        (None, None),
        (stack(), None),
        (stack(("llm.load.contextLength", 2048)), 2048),
        (stack(("embedding.load.contextLength", 512.0)), 512),
        (stack(("llm.load.contextLength", None), ("llm.load.seed", 5)), None),
    ],
)
def test_a_context_may_be_asked_for(settings: Any, length: int | None) -> None:
    assert load_context_length(settings) == length


@pytest.mark.parametrize(
    "settings",
    [
        {"layers": [5]},
        {"layers": [{"config": {"fields": [5]}}]},
        {"layers": [{"config": {"fields": [{"key": 5}]}}]},
        stack(("llm.load.contextLength", "long")),
        stack(("llm.load.contextLength", True)),
    ],
)
def test_malformed_settings_are_refused(settings: Any) -> None:
    with pytest.raises(InvalidRequestError):
        load_context_length(settings)


def message(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": list(parts)}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def test_histories_become_messages() -> None:
    call = {"type": "function", "id": "1", "name": "f", "arguments": {"a": 1}}
    history = {
        "messages": [
            message("system", text("Be "), text("brief.")),
            message("user", text("Go.")),
            message(
                "assistant", text("So: "), {"type": "toolCallRequest", "toolCallRequest": call}
            ),
            message(
                "tool",
                {"type": "toolCallResult", "content": "5", "toolCallId": "1"},
                {"type": "toolCallResult", "content": "6"},
            ),
        ]
    }
    system, user, assistant, *results = template_messages(history)

    assert system == {"role": "system", "content": "Be brief."}
    assert user == {"role": "user", "content": "Go."}
    assert assistant["content"] == "So: "
    assert assistant["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert results == [
        {"role": "tool", "content": "5", "tool_call_id": "1"},
        {"role": "tool", "content": "6"},
    ]
    assert plain_text({"messages": history["messages"][:2]}) == "Be brief.Go."


@pytest.mark.parametrize(
    "history",
    [
        None,
        {"messages": [5]},
        {"messages": [{"role": "user", "content": "Go."}]},
        {"messages": [message("robot", text("Go."))]},
        {"messages": [message("user", {"type": "file", "identifier": "x"})]},
        {"messages": [message("user", {"type": "text", "text": 5})]},
        {"messages": [message("assistant", {"type": "toolCallRequest"})]},
    ],
)
def test_malformed_histories_are_refused(history: Any) -> None:
    with pytest.raises(InvalidRequestError):
        template_messages(history)
