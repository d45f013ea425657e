"""The loop: plan, compute, sample, report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inferflux_core.engine.prefix_sharing import PrefixSharing
from inferflux_core.engine.protocol import EngineStats, RequestOutput, TokenReport
from inferflux_core.engine.request import FinishReason, Request, RequestStatus
from inferflux_core.engine.runner import ModelOutput, ModelRunner, Work
from inferflux_core.engine.sampler import SampledToken, Sampler
from inferflux_core.engine.scheduler import ScheduledRequest, Scheduler
from inferflux_core.engine.slots import SlotPool

__all__ = ["Engine"]


class Engine:
    """Runs requests on one model. Not thread-safe: one thread owns it.

    Args:
        runner: executes the model.
        scheduler: decides what to compute next.
        prefix_cache_bytes: how much of what was computed to keep for others.
    """

    def __init__(
        self, runner: ModelRunner, scheduler: Scheduler, prefix_cache_bytes: int = 0
    ) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._sampler = Sampler()
        self._slots = SlotPool(runner.capabilities.max_num_seqs)
        self._prefixes = PrefixSharing(runner, prefix_cache_bytes)
        self._requests: dict[int, Request] = {}
        self._ends = runner.tokenizer.end_of_generation_ids

    @property
    def has_unfinished_requests(self) -> bool:
        """Whether `step` would do anything."""
        return bool(self._requests)

    def stats(self) -> EngineStats:
        """A snapshot for metrics."""
        capabilities = self._runner.capabilities
        used = sum(r.num_computed_tokens for r in self._requests.values())
        return EngineStats(
            num_running=self._scheduler.num_running,
            num_waiting=self._scheduler.num_waiting + self._prefixes.num_parked,
            kv_usage=used / (capabilities.max_num_seqs * capabilities.max_model_len),
            prefix_queries=self._prefixes.cache.queries,
            prefix_hits=self._prefixes.cache.hits,
        )

    def add_request(self, request: Request) -> None:
        """Queue a request, unless another is just computing what it begins with."""
        self._requests[request.request_id] = request
        if not self._prefixes.park(request):
            self._scheduler.add_request(request)

    def abort_request(self, request_id: int) -> None:
        """End a request without a word; unknown ids are those that have just finished."""
        if (request := self._requests.get(request_id)) is not None:
            self._finish(request)

    def step(self) -> Iterator[list[RequestOutput]]:
        """Advance every scheduled request.

        Yields:
            The outputs of each pass as soon as it is done, so that tokens of running requests do not
            wait for a newcomer's prompt.

        Raises:
            RunnerError: the runner cannot go on.
        """
        plan = self._scheduler.schedule()
        batch = [self._place(scheduled) for scheduled in plan]
        for scheduled in plan:
            scheduled.request.num_computed_tokens += scheduled.num_tokens
        for output in self._runner.execute(batch):
            yield self._commit(plan, output)
        for request in self._prefixes.collect(s.request for s in plan):
            self.add_request(request)

    def fail_all(self, message: str) -> list[RequestOutput]:
        """End every request with an error."""
        return [self._fail(request, message) for request in list(self._requests.values())]

    def check_integrity(self) -> None:
        """Assert that slots and requests agree; for tests."""
        self._slots.check_integrity()
        held = sorted(r.slot for r in self._requests.values() if r.slot is not None)
        assert held == self._slots.in_use, f"slots {self._slots.in_use}, requests hold {held}"
        self._prefixes.check_integrity()
        known = (
            self._scheduler.num_running + self._scheduler.num_waiting + self._prefixes.num_parked
        )
        assert len(self._requests) == known, (
            f"{len(self._requests)} requests, {known} accounted for"
        )

    def _place(self, scheduled: ScheduledRequest) -> Work:
        request, start = scheduled.request, scheduled.request.num_computed_tokens
        if request.slot is None:
            request.slot = self._slots.allocate()
            request.status = RequestStatus.RUNNING
            self._prefixes.restore(request)
        end = start + scheduled.num_tokens
        return Work(
            request.slot, start, request.token_ids[start:end], end == len(request.token_ids)
        )

    def _commit(self, plan: Sequence[ScheduledRequest], output: ModelOutput) -> list[RequestOutput]:
        outputs = [self._fail(plan[index].request, output.error) for index in output.failed]
        requests = [plan[index].request for index in output.indices]
        if requests:
            sampled = self._sampler.sample(requests, output.logits)
            outputs += [self._append(r, t) for r, t in zip(requests, sampled, strict=True)]
        return outputs

    def _append(self, request: Request, sampled: SampledToken | None) -> RequestOutput:
        """Add a token to a request and say what its caller may see."""
        if sampled is None:
            return self._fail(request, "the model produced logits that are not numbers")
        request.token_ids.append(sampled.token_id)
        params, length = request.params, len(request.token_ids)
        ended = (
            sampled.token_id in self._ends and not params.ignore_eos
        ) or sampled.token_id in params.stop_token_ids
        text = "" if ended else request.detokenizer.feed(sampled.token_id)
        reason: FinishReason | None = None
        if ended or request.detokenizer.stopped:
            reason = FinishReason.STOP
        elif length >= request.max_total_tokens:
            reason = FinishReason.LENGTH
        if reason is not None:
            text += request.detokenizer.finish()
            self._finish(request)
        first = length == request.num_prompt_tokens + 1
        return RequestOutput(
            request_id=request.request_id,
            text=text,
            num_tokens=1,
            finish_reason=reason.value if reason else None,
            num_cached_tokens=request.num_cached_tokens if first else None,
            reports=[] if sampled.logprob is None else [self._describe(sampled)],
        )

    def _describe(self, sampled: SampledToken) -> TokenReport:
        piece = self._runner.tokenizer.piece
        return TokenReport(
            token_id=sampled.token_id,
            piece=piece(sampled.token_id),
            logprob=sampled.logprob or 0.0,
            alternatives=[(piece(a.token_id), a.logprob) for a in sampled.alternatives],
        )

    def _fail(self, request: Request, message: str) -> RequestOutput:
        # What a failed pass left in the slot is not what the tokens say.
        self._finish(request, keep=False)
        return RequestOutput(
            request_id=request.request_id,
            finish_reason=FinishReason.ERROR.value,
            error=("engine_error", message),
        )

    def _finish(self, request: Request, *, keep: bool = True) -> None:
        request.status = RequestStatus.FINISHED
        self._sampler.forget(request.request_id)
        del self._requests[request.request_id]
        if not self._prefixes.unpark(request):
            self._scheduler.finish_request(request)
        for follower in self._prefixes.leave(request, keep=keep):
            self.add_request(follower)
        if request.slot is not None:
            self._runner.release(request.slot)
            self._slots.free(request.slot)
            request.slot = None
