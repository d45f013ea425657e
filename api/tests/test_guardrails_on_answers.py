"""Guardrails on the text, the reasoning and the calls of an answer, and on all of a prompt."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from inferflux_api.choices import Choice
from inferflux_api.generation import Delta
from inferflux_api.governance.answers import AnswerGuard
from inferflux_api.governance.arguments import checked_arguments
from inferflux_api.governance.filters import Rule
from inferflux_api.governance.guardrails import GuardrailPipeline
from inferflux_api.governance.prompts import checked_prompt
from inferflux_core.engine.protocol import ChatPrompt
from inferflux_core.errors import GuardrailBlockedError, InvalidRequestError
from inferflux_core.guardrails import Blocked, Direction, GuardrailContext
from inferflux_core.guardrails.blocklist import Blocklist, BlocklistConfig
from inferflux_core.tool_calls.parser import ToolCallDelta

OUTPUT = GuardrailContext("r-1", "acme", "tiny", Direction.OUTPUT)
PROMPT = GuardrailContext("r-1", "acme", "tiny", Direction.PROMPT)


def words(*forbidden: str, action: Any = "block") -> GuardrailPipeline:
    config = BlocklistConfig(words=list(forbidden), action=action)
    return GuardrailPipeline({"blocklist": Blocklist(config)})


class Opinion:
    """A reviewer that remembers what it was shown."""

    directions = frozenset(Direction)

    def __init__(self, piece: int | None) -> None:
        self.piece = piece
        self.shown: list[str] = []

    async def review(self, context: GuardrailContext, text: str) -> None:
        self.shown.append(text)
        if "swordfish" in text:
            raise Blocked("opinion")

    async def close(self) -> None:
        pass


def guarded(pipeline: GuardrailPipeline, *deltas: Delta, calls: Sequence[int] = ()) -> list[Delta]:
    """What leaves of an answer; `calls` says how many are complete at each delta."""

    async def run() -> list[Delta]:
        guard = AnswerGuard(pipeline.inspect(OUTPUT))
        released = []
        for number, delta in enumerate(deltas):
            released.append(await guard.check(delta, calls[number] if calls else 0))
            if released[-1].finish_reason:
                break
        return released

    return asyncio.run(run())


def choice(released: list[Delta]) -> Choice:
    whole = Choice()
    for delta in released:
        whole.add(delta)
    return whole


def text(said: str, reason: str | None = None) -> Delta:
    return Delta(0, said, reason)


def call(
    arguments: str, index: int = 0, name: str | None = None, reason: str | None = None
) -> Delta:
    identifier = name and f"call_{index}"
    return Delta(0, "", reason, tool_calls=[ToolCallDelta(index, identifier, name, arguments)])


def test_text_is_stopped_and_what_was_held_back_is_dropped() -> None:
    released = guarded(words("secret"), text("a sec"), text("ret"), text("more", "stop"))
    assert [(delta.text, delta.finish_reason) for delta in released] == [
        ("a ", None),
        ("", "content_filter"),
    ]


def test_reasoning_is_stopped_too() -> None:
    deltas = [Delta(0, "", reasoning=piece) for piece in ("a sec", "ret")]
    released = guarded(words("secret"), *deltas, text("fine", "stop"))
    assert choice(released).reasoning == "a "
    assert choice(released).finish_reason == "content_filter"


def test_reasoning_ends_where_the_text_begins() -> None:
    released = guarded(
        words("secret"), Delta(0, "", reasoning="so sec"), text("ret"), text("", "stop")
    )
    assert [delta.reasoning for delta in released] == ["so ", "sec", ""]
    assert choice(released).text == "ret", "fields are texts of their own"


@pytest.mark.parametrize(
    "arguments",
    [
        '{"city": "my secret"}',
        r'{"city": "my \u0073ecret"}',
        r'{"city": "my sec\u200bret"}',
        r'{"city": "my \ud835\udc2cecret"}',
        '{"my secret": 1}',
        '{"a": {"b": ["x", "my secret"]}}',
        '{"city": "secret", "city": "Paris"}',
        '{"city": "my secret',
        '{"city": my secret}',
        '{"n": 1234567}',
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_nothing_of_a_call_with_a_forbidden_word_leaves(arguments: str, size: int) -> None:
    pieces = [arguments[at : at + size] for at in range(0, len(arguments), size)]
    deltas = [text("Let me see. "), call("", name="look"), *map(call, pieces), text("", "length")]
    released = choice(guarded(words("secret", "1234567"), *deltas))
    assert released.finish_reason == "content_filter"
    assert released.tool_calls == []
    assert released.text == "Let me see. "


def test_a_call_leaves_when_it_is_complete() -> None:
    released = guarded(
        words("secret"),
        call('{"a"', name="look"),
        call(": 1}"),
        call('{"b": 2', 1, name="look"),
        call("}", 1, reason="tool_calls"),
        calls=[0, 1, 1, 2],
    )
    assert [
        [(c.index, c.id, c.name, c.arguments) for c in delta.tool_calls] for delta in released
    ] == [
        [],
        [(0, "call_0", "look", '{"a": 1}')],
        [],
        [(1, "call_1", "look", '{"b": 2}')],
    ]


def test_masked_arguments_are_still_json() -> None:
    arguments = (
        r'{"who": "say \"se\u0063ret\"\n", "card": 4111, "no": [1.5, true, null], "é": "\u00e9"}'
    )
    released = choice(
        guarded(words("secret", "4111", action="mask"), call(arguments, name="look", reason="stop"))
    )
    assert json.loads(released.tool_calls[0].arguments) == {
        "who": 'say "[REDACTED]"\n',
        "card": "[REDACTED]",
        "no": [1.5, True, None],
        "é": "é",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "{}",
        '{"a": "\\u00',
        '{"a": "x\\',
        '{"a": "\\ud83d"}',
        '{"a": "\\ud83d\\ude00"}',
        "nonsense",
    ],
)
def test_what_is_fine_keeps_its_spelling(arguments: str) -> None:
    assert checked_arguments(arguments, lambda seen: seen) == arguments


def test_escapes_are_read_as_what_they_mean() -> None:
    seen: list[str] = []
    checked_arguments(r'{"a\/\u0062": "\ud83d\ude00\n\"\\"}', lambda x: seen.append(x) or x)
    assert seen == ["a/b", '😀\n"\\']


def test_a_word_cannot_hide_behind_a_call() -> None:
    released = guarded(
        words("swordfish"),
        text("a sword"),
        call("{", name="look"),
        call("}"),
        text("fish", "stop"),
        calls=[0, 0, 1, 1],
    )
    assert choice(released).text == "a sword"
    assert choice(released).finish_reason == "content_filter"
    assert released[1].text == "sword", "before the call, where it belongs"


def test_text_in_one_delta_with_a_whole_call_may_come_after_it() -> None:
    delta = Delta(0, "se", tool_calls=[ToolCallDelta(0, "call_0", "look", "{}")])
    released = guarded(words("secret"), delta, text("cret", "stop"), calls=[1, 1])
    assert (choice(released).text, choice(released).finish_reason) == ("", "content_filter")


def test_text_goes_on_after_a_call() -> None:
    pipeline = words("swordfish", action="mask")
    deltas = [
        text("swordfish, a sword"),
        call("{}", name="look"),
        text(" and more"),
        text(".", "stop"),
    ]
    assert choice(guarded(pipeline, *deltas)).text == "[REDACTED], a sword and more."
    deltas[2:] = [text("fi"), text("sh"), text(".", "stop")]
    released = choice(guarded(pipeline, *deltas))
    assert (released.text, released.finish_reason) == ("[REDACTED], a sword", "content_filter")


def test_a_reviewer_sees_the_whole_answer_before_it_leaves() -> None:
    opinion = Opinion(None)
    deltas = [
        Delta(0, "", reasoning="hm"),
        text("see "),
        text("this"),
        call(r'{"a": "\u0062"}', name="look", reason="tool_calls"),
    ]
    released = guarded(GuardrailPipeline({"opinion": opinion}), *deltas)
    assert [delta.shows_something for delta in released] == [False, False, False, True]
    assert opinion.shown == ["hm\nsee this\na\nb"]
    whole = choice(released)
    assert (whole.reasoning, whole.text, whole.finish_reason) == ("hm", "see this", "tool_calls")
    assert whole.tool_calls[0].arguments == r'{"a": "\u0062"}'


def test_a_reviewer_stops_an_answer() -> None:
    released = guarded(
        GuardrailPipeline({"opinion": Opinion(None)}), text("sword"), text("fish", "stop")
    )
    assert [(delta.text, delta.finish_reason) for delta in released] == [
        ("", None),
        ("", "content_filter"),
    ]


def test_a_reviewer_may_let_an_answer_go_in_pieces() -> None:
    opinion = Opinion(4)
    deltas = [text("abc"), text("def"), text("g"), text("swordfish"), text("", "stop")]
    released = guarded(GuardrailPipeline({"opinion": opinion}), *deltas)
    assert [delta.text for delta in released] == ["", "abcdef", "", ""]
    assert released[-1].finish_reason == "content_filter"
    assert opinion.shown == ["abcdef", "abcdefgswordfish"]


def test_a_reviewer_who_only_flags_holds_nothing_back() -> None:
    opinion = Opinion(None)
    pipeline = GuardrailPipeline({"opinion": opinion}, {"opinion": Rule("flag")})
    released = guarded(pipeline, text("sword"), text("fish", "stop"))
    assert [delta.text for delta in released] == ["sword", "fish"]
    assert opinion.shown == ["swordfish"]


def chat(message: dict[str, Any], **rest: Any) -> ChatPrompt:
    return ChatPrompt(messages=[message], **rest)


def tool(**parameters: Any) -> dict[str, Any]:
    function = {"name": "look", "description": "", "parameters": {"type": "object", **parameters}}
    return {"type": "function", "function": function}


HELLO = {"role": "user", "content": "hello"}


def called(arguments: Any) -> ChatPrompt:
    function = {"name": "look", "arguments": arguments}
    return chat({"role": "assistant", "tool_calls": [{"type": "function", "function": function}]})


@pytest.mark.parametrize(
    "prompt",
    [
        chat({"role": "user", "content": "a secret"}),
        chat({"role": "user", "content": [{"type": "text", "text": "a secret"}]}),
        chat({"role": "user", "name": "secret", "content": "hello"}),
        chat({"role": "tool", "tool_call_id": "a", "content": '{"a": "secret"}'}),
        chat({"role": "assistant", "content": "", "reasoning_content": "a secret"}),
        called({"a": "secret"}),
        called({"secret": 1}),
        called({"n": 1234567}),
        called({"n": 0.1234567}),
        called({"type": "secret", "role": ["secret"]}),
        chat(HELLO, tools=[{"function": {"name": "look", "description": "a secret"}}]),
        chat(HELLO, tools=[tool(properties={"secret": {"type": "string"}})]),
        chat(HELLO, tools=[tool(properties={"a": {"enum": ["x", "secret"]}})]),
        chat(HELLO, options={"secret": True}),
        chat(HELLO, options={"style": "secret"}),
    ],
)
def test_every_part_of_a_prompt_is_checked(prompt: ChatPrompt) -> None:
    with pytest.raises(GuardrailBlockedError):
        checked_prompt(prompt, words("secret", "1234567").check_prompt(PROMPT))


def test_the_words_of_the_format_itself_are_not_the_clients() -> None:
    prompt = chat(HELLO, tools=[tool(properties={"a": {"type": "string"}}, required=["a"])])
    check = words("user", "role", "properties", "string", "object").check_prompt(PROMPT)
    assert checked_prompt(prompt, check) == prompt


def test_a_prompt_is_masked_wherever_it_says_something() -> None:
    check = words("secret", "4111", action="mask").check_prompt(PROMPT)
    masked = checked_prompt(called({"a secret": ["secret", 4111, True, 7]}), check)
    assert isinstance(masked, ChatPrompt)
    assert masked.messages[0]["tool_calls"][0]["function"]["arguments"] == {
        "a [REDACTED]": ["[REDACTED]", "[REDACTED]", True, 7]
    }


def test_no_field_is_lost_because_names_are_masked() -> None:
    check = words("secret", "mystery", action="mask").check_prompt(PROMPT)
    with pytest.raises(InvalidRequestError, match="the same name"):
        checked_prompt(called({"secret": 1, "mystery": 2}), check)
