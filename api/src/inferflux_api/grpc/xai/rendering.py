"""From our answers to xAI's, whole and streamed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from inferflux_api.choices import Choice, ToolCall
from inferflux_api.generation import Delta
from inferflux_api.grpc.protos import xai_pb2 as pb
from inferflux_api.pipeline import Generation
from inferflux_core.engine.protocol import TokenReport
from inferflux_core.errors import GuardrailBlockedError

__all__ = ["ChatRenderer"]

_REASONS: Final[dict[str | None, pb.FinishReason]] = {
    None: pb.REASON_INVALID,
    "stop": pb.REASON_STOP,
    "length": pb.REASON_MAX_LEN,
    "tool_calls": pb.REASON_TOOL_CALLS,
}


class ChatRenderer:
    """The messages of one answer."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._identity: dict[str, Any] = {
            "id": f"chatcmpl-{generation.id}",
            "model": generation.model_name,
            "created": Timestamp(seconds=generation.created),
            "service_tier": pb.SERVICE_TIER_DEFAULT,
        }
        self._open_calls: dict[int, ToolCall] = {}

    def whole(self, choices: Sequence[Choice]) -> pb.GetChatCompletionResponse:
        """The answer that is not streamed.

        Raises:
            GuardrailBlockedError: a guardrail cut it off, which the protocol has no other word for.
        """
        return pb.GetChatCompletionResponse(
            **self._identity,
            outputs=[_output(index, choice) for index, choice in enumerate(choices)],
            usage=self._usage(),
        )

    def chunk(self, delta: Delta) -> pb.GetChatCompletionChunk | None:
        """What is new, if clients can use it: they take calls as a whole.

        Raises:
            GuardrailBlockedError: a guardrail cut the answer off.
        """
        calls = self._complete_calls(delta)
        reason = _reason(delta.finish_reason)
        if not (delta.text or delta.reasoning or delta.reports or calls or reason):
            return None
        output = pb.CompletionOutputChunk(
            index=delta.index,
            finish_reason=reason,
            delta=pb.Delta(
                role=pb.ROLE_ASSISTANT,
                content=delta.text,
                reasoning_content=delta.reasoning,
                tool_calls=calls,
            ),
            logprobs=_logprobs(delta.reports),
        )
        return pb.GetChatCompletionChunk(
            **self._identity, outputs=[output], usage=self._usage() if reason else None
        )

    def _complete_calls(self, delta: Delta) -> list[pb.ToolCall]:
        complete = []
        for new in delta.tool_calls:
            if new.id is not None:
                complete.append(self._open_calls.pop(delta.index, None))
                self._open_calls[delta.index] = ToolCall()
            self._open_calls[delta.index].add(new)
        if delta.finish_reason is not None:
            complete.append(self._open_calls.pop(delta.index, None))
        return [_call(call) for call in complete if call is not None]

    def _usage(self) -> pb.SamplingUsage:
        usage = self._generation.usage
        return pb.SamplingUsage(
            prompt_tokens=usage.prompt_tokens,
            prompt_text_tokens=usage.prompt_tokens,
            cached_prompt_text_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            total_tokens=usage.prompt_tokens + usage.completion_tokens,
        )


def _output(index: int, choice: Choice) -> pb.CompletionOutput:
    return pb.CompletionOutput(
        index=index,
        finish_reason=_reason(choice.finish_reason),
        message=pb.CompletionMessage(
            role=pb.ROLE_ASSISTANT,
            content=choice.text,
            reasoning_content=choice.reasoning,
            tool_calls=[_call(call) for call in choice.tool_calls],
        ),
        logprobs=_logprobs(choice.reports),
    )


def _reason(reason: str | None) -> pb.FinishReason:
    if reason == "content_filter":
        raise GuardrailBlockedError("a guardrail of this server cut the answer off")
    return _REASONS[reason]


def _call(call: ToolCall) -> pb.ToolCall:
    return pb.ToolCall(
        id=call.id,
        type=pb.TOOL_CALL_TYPE_CLIENT_SIDE_TOOL,
        function=pb.FunctionCall(name=call.name, arguments=call.arguments),
    )


def _logprobs(reports: Sequence[TokenReport]) -> pb.LogProbs | None:
    if not reports:
        return None
    return pb.LogProbs(
        content=[
            pb.LogProb(
                token=_text(report.piece),
                logprob=report.logprob,
                bytes=report.piece,
                top_logprobs=[
                    pb.TopLogProb(token=_text(piece), logprob=logprob, bytes=piece)
                    for piece, logprob in report.alternatives
                ],
            )
            for report in reports
        ]
    )


def _text(piece: bytes) -> str:
    # A token may be part of a character; `bytes` tells the whole truth.
    return piece.decode("utf-8", "replace")
