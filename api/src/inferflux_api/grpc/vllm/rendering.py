"""From our answers to those of vLLM engines: token ids and probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from inferflux_api.generation import Delta
from inferflux_api.grpc.protos import vllm_pb2 as pb
from inferflux_api.pipeline import Generation
from inferflux_core.engine.protocol import TokenReport

__all__ = ["GenerateRenderer"]


@dataclass(slots=True)
class _Choice:
    """One choice, as far as it has come."""

    reports: list[TokenReport] = field(default_factory=list)
    prompt_reports: list[TokenReport] = field(default_factory=list)
    ended: bool = False


class GenerateRenderer:
    """The messages of one generation.

    Args:
        request: as it came.
        first_token_id: of the prompt, if its probabilities were asked for.
    """

    def __init__(self, request: pb.GenerateRequest, first_token_id: int | None) -> None:
        wanted = request.sampling_params
        self._streams = request.stream
        self._shows_logprobs = wanted.HasField("logprobs")
        self._stop_token_ids = frozenset(wanted.stop_token_ids)
        self._first_token_id = first_token_id
        self._choices = [_Choice() for _ in range(wanted.n or 1)]

    def delta(self, delta: Delta, generation: Generation) -> Iterator[pb.GenerateResponse]:
        """What is new about a choice, if it is streamed, and all of it when it ends."""
        choice = self._choices[delta.index]
        choice.reports += delta.reports
        choice.prompt_reports += delta.prompt_reports
        if self._streams and delta.reports:
            chunk = pb.GenerateStreamChunk(
                index=delta.index,
                token_ids=[report.token_id for report in delta.reports],
                output_logprobs=self._output(delta.reports),
                input_logprobs=self._input(delta.prompt_reports),
                **_usage(generation, choice),
            )
            yield pb.GenerateResponse(chunk=chunk)
        if delta.finish_reason is not None:
            stop = self._matched(delta, choice)
            yield self._complete(delta.index, delta.finish_reason, _usage(generation, choice), stop)

    def aborted(self, generation: Generation | None) -> Iterator[pb.GenerateResponse]:
        """The end of all choices that have not ended."""
        for index, choice in enumerate(self._choices):
            if not choice.ended:
                usage = {} if generation is None else _usage(generation, choice)
                yield self._complete(index, "abort", usage, {})

    def _complete(
        self, index: int, reason: str, usage: dict[str, Any], stop: dict[str, Any]
    ) -> pb.GenerateResponse:
        choice = self._choices[index]
        choice.ended = True
        complete = pb.GenerateComplete(
            index=index,
            output_ids=[report.token_id for report in choice.reports],
            finish_reason=reason,
            output_logprobs=self._output(choice.reports),
            input_logprobs=self._input(choice.prompt_reports),
            **usage,
            **stop,
        )
        return pb.GenerateResponse(complete=complete)

    def _matched(self, delta: Delta, choice: _Choice) -> dict[str, Any]:
        if delta.stop_sequence is not None:
            return {"matched_stop_str": delta.stop_sequence}
        last = choice.reports[-1].token_id if choice.reports else None
        return {"matched_token_id": last} if last in self._stop_token_ids else {}

    def _output(self, reports: Sequence[TokenReport]) -> pb.OutputLogProbs | None:
        if not self._shows_logprobs:
            return None
        return pb.OutputLogProbs(
            token_logprobs=[report.logprob for report in reports],
            token_ids=[report.token_id for report in reports],
            top_logprobs=[_alternatives(report) for report in reports],
        )

    def _input(self, reports: Sequence[TokenReport]) -> pb.InputLogProbs | None:
        if self._first_token_id is None or not reports:
            return None
        # Nothing predicts the first token.
        return pb.InputLogProbs(
            token_logprobs=[
                pb.InputTokenLogProb(),
                *(pb.InputTokenLogProb(value=report.logprob) for report in reports),
            ],
            token_ids=[self._first_token_id, *(report.token_id for report in reports)],
            top_logprobs=[pb.TopLogProbs(), *(_alternatives(report) for report in reports)],
        )


def _usage(generation: Generation, choice: _Choice) -> dict[str, Any]:
    return {
        "prompt_tokens": generation.usage.prompt_tokens,
        "cached_tokens": generation.usage.cached_tokens,
        "completion_tokens": len(choice.reports),
    }


def _alternatives(report: TokenReport) -> pb.TopLogProbs:
    return pb.TopLogProbs(
        values=[logprob for _, logprob in report.alternatives], token_ids=report.alternative_ids
    )
