from __future__ import annotations

from typing import Any

import msgspec
import pytest

from inferflux_api.dialects.openai.schemas import ChatRequest, CompletionRequest
from inferflux_api.dialects.openai.translate import chat_request, completion_request
from inferflux_api.generation import GenerationRequest
from inferflux_core.engine.protocol import ChatPrompt, TextPrompt, TokenPrompt
from inferflux_core.errors import InvalidRequestError

MESSAGES = [{"role": "user", "content": "hi"}]


def chat(**fields: Any) -> GenerationRequest:
    return chat_request(msgspec.convert({"messages": MESSAGES, **fields}, ChatRequest))


def completion(**fields: Any) -> GenerationRequest:
    return completion_request(msgspec.convert({"prompt": "hi", **fields}, CompletionRequest))


def test_parameters_arrive() -> None:
    params = chat(
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.1,
        seed=3,
        stop="END",
        logit_bias={"5": -1},
        frequency_penalty=0.2,
        presence_penalty=0.3,
        max_tokens=7,
        ignore_eos=True,
    ).params
    assert (params.temperature, params.top_p, params.top_k, params.min_p) == (0.5, 0.9, 40, 0.1)
    assert (params.seed, params.stop, params.logit_bias) == (3, ["END"], {5: -1})
    assert (params.frequency_penalty, params.presence_penalty) == (0.2, 0.3)
    assert (params.max_tokens, params.ignore_eos) == (7, True)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6, "max_tokens": 5}, 6),
        ({"max_tokens": -1}, None),
        ({"max_completion_tokens": 0, "max_tokens": 5}, 0),
    ],
)
def test_which_limit_counts(fields: dict[str, int], expected: int | None) -> None:
    assert chat(**fields).params.max_tokens == expected


def test_messages_become_what_templates_expect() -> None:
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "name": "bot"},
    ]
    (prompt,) = chat(messages=messages).prompts
    assert isinstance(prompt, ChatPrompt)
    assert prompt.messages == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "", "name": "bot"},
    ]


@pytest.mark.parametrize(
    ("logprobs", "top", "expected"),
    [(None, None, None), (False, None, None), (True, None, 0), (True, 4, 4)],
)
def test_logprobs(logprobs: bool | None, top: int | None, expected: int | None) -> None:
    assert chat(logprobs=logprobs, top_logprobs=top).params.logprobs == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("hi", [TextPrompt(text="hi")]),
        (["a", "b"], [TextPrompt(text="a"), TextPrompt(text="b")]),
        ([1, 2], [TokenPrompt(token_ids=[1, 2])]),
        ([[1], [2, 3]], [TokenPrompt(token_ids=[1]), TokenPrompt(token_ids=[2, 3])]),
    ],
)
def test_the_four_shapes_of_a_prompt(prompt: object, expected: list[object]) -> None:
    assert completion(prompt=prompt).prompts == expected


@pytest.mark.parametrize(
    "prompt", [[], [True], ["a", 1], [1, "a"], [[1], "a"], [[]], [None], [1.5]]
)
def test_other_shapes_are_refused(prompt: object) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        completion(prompt=prompt)
    assert caught.value.param == "prompt"


@pytest.mark.parametrize(
    "fields",
    [{"suffix": "x", "echo": True}, {"best_of": 2, "n": 3}, {"best_of": 2, "stream": True}],
)
def test_what_cannot_be_had_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        completion(**fields)
    assert caught.value.param in fields


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({}, (1, None, 1)), ({"n": 2, "best_of": 2}, (2, None, 2)), ({"best_of": 3}, (1, 3, 3))],
)
def test_how_many_choices_are_generated(fields: dict[str, int], expected: tuple[Any, ...]) -> None:
    request = completion(**fields)
    assert (request.n, request.best_of, request.candidates) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"logprobs": 3}, None),
        ({"echo": True}, None),
        ({"echo": True, "logprobs": 3}, 3),
        ({"echo": True, "max_tokens": 0}, 0),
    ],
)
def test_echo_wants_to_know_about_the_prompt(fields: dict[str, Any], expected: int | None) -> None:
    assert completion(**fields).params.prompt_logprobs == expected


def test_priority_is_passed_on() -> None:
    assert completion(priority=-3).priority == chat(priority=-3).priority == -3
    assert completion().priority == 0


def test_completions_default_to_sixteen_tokens() -> None:
    assert completion().params.max_tokens == 16
