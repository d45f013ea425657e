"""Answers of every family of models, cut into pieces in every way."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferflux_core.tool_calls.formats import FORMATS, ReasoningMarkers
from inferflux_core.tool_calls.parser import AnswerParser

SCHEMAS = {
    "find": {
        "type": "object",
        "properties": {"text": {"type": "string"}, "limit": {"type": "integer"}},
        "required": ["text"],
    },
    "now": {"type": "object", "properties": {}},
}
THINK = ReasoningMarkers("<think>", "</think>")
FIND = ("find", {"text": 'a "b" {c}', "limit": 2})
NOW = ("now", {})
ARGUMENTS = json.dumps(FIND[1])

ANSWERS = {
    "hermes": f'Well.\n<tool_call>\n{{"name": "find", "arguments": {ARGUMENTS}}}\n</tool_call>\n'
    '<tool_call>\n{"arguments": {}, "name": "now"}\n</tool_call>',
    "generic": f'{{"name": "find", "arguments": {ARGUMENTS}}}'
    '<tool_call>{"name": "now"}</tool_call>',
    "llama3": f'{{"name": "find", "parameters": {ARGUMENTS}}}; {{"name": "now", "parameters": {{}}}}',
    "mistral": f'[TOOL_CALLS] [{{"name": "find", "arguments": {ARGUMENTS}}}, '
    '{"name": "now", "arguments": {}}]',
    "mistral-named": f"[TOOL_CALLS]find[CALL_ID]abc[ARGS]{ARGUMENTS}[TOOL_CALLS]now{{}}",
    "qwen-coder": '<tool_call>\n<function=find>\n<parameter=text>\na "b" {c}\n</parameter>\n'
    "<parameter=limit>\n2\n</parameter>\n</function>\n</tool_call>\n"
    "<tool_call>\n<function=now>\n</function>\n</tool_call>",
    "gemma": '<start_function_call>call:find{text:<escape>a "b" {c}<escape>,limit:2}'
    "<end_function_call><start_function_call>call:now{}<end_function_call>",
    "gemma4": '<|tool_call>call:find{text:<|"|>a "b" {c}<|"|>,limit:2}<tool_call|>'
    "<|tool_call>call:now{}<tool_call|>",
}


PIECES = [
    *("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "<think>"),
    *("<start_function_call>", "<end_function_call>", "</think>", "call:now{}", "```json"),
    *('<tool_call>{"name": "now"}</tool_call>', "[TOOL_CALLS]now{}", "Well.", " "),
    *('"name": "now"', '"arguments": {}', "now", *'{}[],:" \nx'),
]


def read(
    parser: AnswerParser, pieces: list[str]
) -> tuple[str, str, list[tuple[str, dict[str, object]]]]:
    """Content, reasoning and calls of an answer that comes in pieces."""
    content, reasoning, calls = "", "", dict[int, list[str]]()
    for parsed in [*(parser.feed(piece) for piece in pieces), parser.finish()]:
        content += parsed.content
        reasoning += parsed.reasoning
        for delta in parsed.tool_calls:
            call = calls.setdefault(delta.index, ["", ""])
            assert (delta.id is None) == (delta.name is None)
            call[0] += delta.name or ""
            call[1] += delta.arguments
    return content, reasoning, [(name, json.loads(text)) for name, text in calls.values()]


def cut(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 1000])
@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_every_family_is_read_however_it_is_cut(name: str, size: int) -> None:
    parser = AnswerParser(SCHEMAS, FORMATS[name])
    content, _, calls = read(parser, cut(ANSWERS[name], size))

    assert calls == [FIND, NOW]
    assert content == ("Well.\n" if name == "hermes" else "")
    assert parser.num_calls == 2


def test_there_is_an_answer_for_every_format() -> None:
    assert set(ANSWERS) == set(FORMATS)


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(
    "text",
    [
        "nothing to call",
        "<tool_call",
        "<tool_call>junk</tool_call>",
        '<tool_call>{"name": "other", "arguments": {}}</tool_call> and on',
        '<tool_call>{"arguments": {"text": "fi',
        '{"text": "not a call"}',
        "[1, 2]",
    ],
)
def test_what_is_no_call_is_text(text: str, size: int) -> None:
    content, _, calls = read(AnswerParser(SCHEMAS, FORMATS["generic"]), cut(text, size))

    assert (content, calls) == (text, [])


def test_arguments_may_be_a_string_or_fenced() -> None:
    text = '```json\n{"name": "find", "arguments": "{\\"text\\": \\"x\\"}"}\n```'
    _, _, calls = read(AnswerParser(SCHEMAS, FORMATS["generic"]), cut(text, 3))

    assert calls == [("find", {"text": "x"})]


def test_without_tools_everything_is_text() -> None:
    text = ANSWERS["hermes"]

    assert read(AnswerParser({}, FORMATS["hermes"]), cut(text, 4))[0] == text


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("text", "open_already", "expected"),
    [
        ("<think>\nwhy\n\nso\n</think>\n\nhello", False, ("hello", "why\n\nso")),
        ("why</think>hello", True, ("hello", "why")),
        ("no <think> here", False, ("no <think> here", "")),
        ("<think>never ends", False, ("", "never ends")),
        ("<thin ice", False, ("<thin ice", "")),
    ],
)
def test_reasoning(text: str, open_already: bool, expected: tuple[str, str], size: int) -> None:
    parser = AnswerParser({}, FORMATS["hermes"], THINK, in_reasoning=open_already)

    assert read(parser, cut(text, size))[:2] == expected


@given(
    st.sampled_from(sorted(FORMATS)),
    st.lists(
        st.sampled_from(PIECES),
        max_size=30,
    ),
)
def test_how_an_answer_is_cut_changes_nothing(name: str, parts: list[str]) -> None:
    text = "".join(parts)

    def result(pieces: list[str]) -> object:
        parser = AnswerParser(SCHEMAS, FORMATS[name], THINK)
        content, reasoning, calls = "", "", list[tuple[int, str | None, str]]()
        for parsed in [*(parser.feed(piece) for piece in pieces), parser.finish()]:
            content += parsed.content
            reasoning += parsed.reasoning
            calls += [(d.index, d.name, d.arguments) for d in parsed.tool_calls]

        return content, reasoning, [n for _, n, _ in calls if n], parser.num_calls

    assert result(list(text)) == result(parts) == result([text])


def test_blanks_count_after_text_and_not_before_a_call() -> None:
    call = '<tool_call>{"name": "now"}</tool_call>'
    for pieces in (["Well.", f" {call}"], ["Well. ", call], [f"Well. {call}"]):
        assert read(AnswerParser(SCHEMAS, FORMATS["hermes"]), pieces)[0] == "Well. "
    for pieces in (["\n", call], [f"\n{call}"]):
        assert read(AnswerParser(SCHEMAS, FORMATS["hermes"]), pieces)[0] == ""


def test_a_long_call_takes_linear_time() -> None:
    def seconds(length: int) -> float:
        parser = AnswerParser(SCHEMAS, FORMATS["qwen-coder"])
        parser.feed("<tool_call>\n<function=find>\n<parameter=text>\n")
        began = time.perf_counter()
        for _ in range(length):
            parser.feed("ten chars ")
        return time.perf_counter() - began

    seconds(1000)
    short, long = min(seconds(2000) for _ in range(3)), min(seconds(16000) for _ in range(3))
    assert long < short * 32, "eight times the text, nowhere near 64 times the time"
