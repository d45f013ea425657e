"""How families of models spell tool calls, and how to tell from a chat template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = [
    "FORMATS",
    "GENERIC",
    "ReasoningMarkers",
    "ToolFormat",
    "detect_format",
    "detect_reasoning",
]


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """One way to spell calls.

    Attributes:
        name: of the format.
        opening: begins a call, or a list of them.
        closing: ends a call; empty where the call itself shows its end.
        body: `json`: an object with the tool's name and its arguments; `named`: the name, then the
            arguments as JSON; `xml`: elements, as Qwen3-Coder; `gemma`: as FunctionGemma and Gemma 4.
        arguments_key: of the arguments in the object.
        bare: an answer may also begin with a call that nothing opens.
        separator: between calls.
        listed: the calls of an answer stand in one list.
        quote: around strings, where those are not written as in JSON.
    """

    name: str
    opening: str
    closing: str
    body: Literal["json", "named", "xml", "gemma"] = "json"
    arguments_key: str = "arguments"
    bare: bool = False
    separator: str = "\n"
    listed: bool = False
    quote: str = ""


@dataclass(frozen=True, slots=True)
class ReasoningMarkers:
    """What a model writes around its reasoning."""

    opening: str
    closing: str


GENERIC: Final = ToolFormat("generic", "<tool_call>", "</tool_call>", bare=True)
"""For models whose template knows nothing of tools: they are told of this format in the prompt."""

FORMATS: Final = {
    tool_format.name: tool_format
    for tool_format in (
        GENERIC,
        ToolFormat("hermes", "<tool_call>", "</tool_call>"),
        ToolFormat("qwen-coder", "<tool_call>", "</tool_call>", body="xml"),
        ToolFormat(
            "llama3", "<|python_tag|>", "", arguments_key="parameters", bare=True, separator="; "
        ),
        ToolFormat("mistral", "[TOOL_CALLS]", "", separator=", ", listed=True),
        ToolFormat("mistral-named", "[TOOL_CALLS]", "", body="named", separator=""),
        ToolFormat(
            "gemma",
            "<start_function_call>",
            "<end_function_call>",
            body="gemma",
            separator="",
            quote="<escape>",
        ),
        ToolFormat(
            "gemma4", "<|tool_call>", "<tool_call|>", body="gemma", separator="", quote='<|"|>'
        ),
    )
}

_SIGNS: Final = (
    # The first whose signs are all in the template. Some families borrow a marker for a format of their
    # own, which is not known here; their models are told of the generic one.
    (("<arg_key>",), "generic"),
    (("<invoke",), "generic"),
    (("<|python_tag|>", "<function="), "generic"),
    (("<start_function_call>",), "gemma"),
    (("<|tool_call>call:",), "gemma4"),
    (("[TOOL_CALLS]", "[ARGS]"), "mistral-named"),
    (("[TOOL_CALLS]",), "mistral"),
    (("<tool_call>", "<function="), "qwen-coder"),
    (("<tool_call>",), "hermes"),
    (("<|python_tag|>",), "llama3"),
    (("ipython", '"parameters"'), "llama3"),
)

_REASONING: Final = (
    ReasoningMarkers("<think>", "</think>"),
    ReasoningMarkers("[THINK]", "[/THINK]"),
)


def detect_format(template: str | None) -> ToolFormat:
    """The format that a chat template teaches, or the generic one."""
    source = template or ""
    for signs, name in _SIGNS:
        if all(sign in source for sign in signs):
            return FORMATS[name]
    return GENERIC


def detect_reasoning(template: str | None) -> ReasoningMarkers | None:
    """What a model with this template writes around its reasoning, if it reasons."""
    source = template or ""
    return next((m for m in _REASONING if m.closing in source), None)
