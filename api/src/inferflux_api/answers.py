"""Telling reasoning, text and calls apart in what a model writes."""

from __future__ import annotations

from dataclasses import replace

from inferflux_api.conversation import ToolUse
from inferflux_api.generation import Delta
from inferflux_core.engine.protocol import ModelInfo, RequestOutput
from inferflux_core.tool_calls.formats import FORMATS, ReasoningMarkers
from inferflux_core.tool_calls.parser import AnswerParser

__all__ = ["answer_parser", "parsed_delta"]


def answer_parser(tools: ToolUse, info: ModelInfo, first: RequestOutput) -> AnswerParser | None:
    """What reads an answer of this model, if there is anything to tell apart.

    Args:
        tools: that may be called.
        info: of the model.
        first: output of the answer.
    """
    reasoning = ReasoningMarkers(*info.reasoning) if info.reasoning else None
    if reasoning is None and not tools.offered:
        return None
    return AnswerParser(
        {tool.name: tool.parameters for tool in tools.offered},
        FORMATS[info.tool_format],
        reasoning,
        in_reasoning=first.in_reasoning,
    )


def parsed_delta(delta: Delta, parser: AnswerParser) -> Delta:
    """A delta with its text told apart.

    An answer that stops after a call has the finish reason `tool_calls`.
    """
    parsed = parser.feed(delta.text)
    reason = delta.finish_reason
    if reason is not None:
        last = parser.finish()
        parsed.content += last.content
        parsed.reasoning += last.reasoning
        parsed.tool_calls += last.tool_calls
        if reason == "stop" and parser.num_calls:
            reason = "tool_calls"
    return replace(
        delta,
        text=parsed.content,
        reasoning=parsed.reasoning,
        tool_calls=parsed.tool_calls,
        finish_reason=reason,
    )
