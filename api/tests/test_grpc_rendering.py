"""Answers as xAI's clients get them, from deltas cut in every way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from inferflux_api.choices import Choice
from inferflux_api.generation import Delta, Usage
from inferflux_api.grpc.protos import xai_pb2 as pb
from inferflux_api.grpc.xai.rendering import ChatRenderer
from inferflux_core.errors import GuardrailBlockedError
from inferflux_core.tool_calls.parser import ToolCallDelta


@pytest.fixture
def renderer() -> ChatRenderer:
    generation: Any = SimpleNamespace(
        id="1", model_name="m", created=7, usage=Usage(prompt_tokens=3, completion_tokens=4)
    )
    return ChatRenderer(generation)


def called(*calls: ToolCallDelta, index: int = 0, end: str | None = None) -> Delta:
    return Delta(index, "", end, tool_calls=list(calls))


def rendered(renderer: ChatRenderer, *deltas: Delta) -> list[pb.GetChatCompletionChunk]:
    chunks = [renderer.chunk(delta) for delta in deltas]
    return [chunk for chunk in chunks if chunk is not None]


def test_calls_in_pieces_come_whole_and_in_order(renderer: ChatRenderer) -> None:
    chunks = rendered(
        renderer,
        called(ToolCallDelta(0, "a", "f")),
        called(ToolCallDelta(0, arguments='{"x"')),
        called(ToolCallDelta(0, "b", "g"), index=1),
        called(ToolCallDelta(0, arguments=": 1}"), ToolCallDelta(1, "c", "g")),
        called(ToolCallDelta(1, arguments="{}"), end="tool_calls"),
        called(ToolCallDelta(0, arguments="[]"), index=1, end="length"),
    )
    seen = [
        (output.index, call.id, call.function.name, call.function.arguments)
        for chunk in chunks
        for output in chunk.outputs
        for call in output.delta.tool_calls
    ]
    assert seen == [(0, "a", "f", '{"x": 1}'), (0, "c", "g", "{}"), (1, "b", "g", "[]")]
    assert len(chunks) == 3, "what clients could not use is not sent"


def test_usage_comes_with_the_end(renderer: ChatRenderer) -> None:
    first, last = rendered(renderer, Delta(0, "a"), Delta(0, "b", "stop"))
    assert not first.HasField("usage")
    assert (last.usage.total_tokens, last.outputs[0].finish_reason) == (7, pb.REASON_STOP)


def test_an_answer_that_was_cut_off_is_an_error(renderer: ChatRenderer) -> None:
    with pytest.raises(GuardrailBlockedError, match="cut the answer off"):
        renderer.chunk(Delta(0, "", "content_filter"))
    with pytest.raises(GuardrailBlockedError):
        renderer.whole([Choice(finish_reason="content_filter")])
