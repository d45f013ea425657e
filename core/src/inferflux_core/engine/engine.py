"""The loop: plan, compute, sample, report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from inferflux_core.engine.compaction import moves_to_close_holes
from inferflux_core.engine.kv.manager import KVCacheManager
from inferflux_core.engine.protocol import EngineStats, RequestOutput
from inferflux_core.engine.reporting import Reporter
from inferflux_core.engine.request import FinishReason, Request, RequestStatus
from inferflux_core.engine.runner import DraftVerifier, ModelOutput, ModelRunner, SlotMover, Work
from inferflux_core.engine.sampler import SampledToken, Sampler
from inferflux_core.engine.scheduler import ScheduledRequest, Scheduler
from inferflux_core.engine.slots import SlotPool
from inferflux_core.engine.speculation.speculator import Speculator
from inferflux_core.errors import EngineError, InvalidRequestError

__all__ = ["Engine"]

Logits = NDArray[np.float32]

_DISK_WAIT_SECONDS = 0.05


class Engine:
    """Runs requests on one model. Not thread-safe: one thread owns it.

    Args:
        runner: executes the model.
        scheduler: decides what to compute next.
        kv: shares and keeps what has been computed.
        speculator: drafts tokens ahead; None never does.
        on_finish: called once with every request that has ended, whatever the reason.
    """

    def __init__(
        self,
        runner: ModelRunner,
        scheduler: Scheduler,
        kv: KVCacheManager,
        speculator: Speculator | None = None,
        on_finish: Callable[[Request], None] = lambda request: None,
    ) -> None:
        self._runner = runner
        self._on_finish = on_finish
        self._scheduler = scheduler
        self._kv = kv
        self._speculator = speculator
        self._mover = (
            runner
            if runner.capabilities.contiguous_slots and isinstance(runner, SlotMover)
            else None
        )
        self._sampler = Sampler()
        self._reporter = Reporter(runner.tokenizer)
        self._slots = SlotPool(runner.capabilities.max_num_seqs)
        self._requests: dict[int, Request] = {}
        self._ends = runner.tokenizer.end_of_generation_ids
        self._num_preempted = 0

    @property
    def has_unfinished_requests(self) -> bool:
        """Whether `step` would do anything."""
        return bool(self._requests)

    def stats(self) -> EngineStats:
        """A snapshot for metrics."""
        capabilities = self._runner.capabilities
        used = sum(r.num_computed_tokens for r in self._requests.values() if r.slot is not None)
        speculator, disk = self._speculator, self._kv.disk
        return EngineStats(
            num_running=self._scheduler.num_running,
            num_waiting=self._scheduler.num_waiting + self._kv.num_parked,
            kv_usage=used / (capabilities.max_num_seqs * capabilities.max_model_len),
            prefix_queries=self._kv.queries,
            prefix_hits=self._kv.hits,
            memory_blocks=self._kv.memory_blocks,
            memory_bytes=self._kv.memory_bytes,
            disk_bytes=disk.size if disk else 0,
            disk_hits=disk.hits if disk else 0,
            disk_errors=disk.errors if disk else 0,
            num_preempted=self._num_preempted,
            num_drafted=speculator.num_drafted if speculator else 0,
            num_accepted=speculator.num_accepted if speculator else 0,
            num_failed_drafters=speculator.num_failed if speculator else 0,
        )

    def add_request(self, request: Request) -> None:
        """Queue a request, unless another is just computing what it begins with."""
        self._requests[request.request_id] = request
        if not self._kv.park(request):
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
        ready, followers = self._kv.poll()
        for request in ready:
            self._scheduler.add_request(request)
        for request in followers:
            self.add_request(request)
        self._close_holes()
        self._draft()
        plan = self._scheduler.schedule()
        for request in plan.preempted:
            self._preempt(request)
        if not plan.scheduled:
            self._kv.wait(_DISK_WAIT_SECONDS)
            return
        batch = [self._place(scheduled) for scheduled in plan.scheduled]
        rows_seen = [0] * len(batch)
        for output in self._runner.execute(batch):
            yield self._commit(plan.scheduled, batch, rows_seen, output)
        for request in self._kv.collect(s.request for s in plan.scheduled):
            self.add_request(request)

    def fail_all(self, message: str) -> list[RequestOutput]:
        """End every request with an error."""
        return [self._fail(request, message) for request in list(self._requests.values())]

    def close(self) -> None:
        """Write what is to be kept, and free drafter and runner."""
        self._kv.close()
        if self._speculator is not None:
            self._speculator.close()
        self._runner.close()

    def check_integrity(self) -> None:
        """Assert that slots and requests agree; for tests."""
        self._slots.check_integrity()
        held = sorted(r.slot for r in self._requests.values() if r.slot is not None)
        assert held == self._slots.in_use, f"slots {self._slots.in_use}, requests hold {held}"
        self._kv.check_integrity()
        known = self._scheduler.num_running + self._scheduler.num_waiting + self._kv.num_parked
        assert len(self._requests) == known, (
            f"{len(self._requests)} requests, {known} accounted for"
        )

    def _close_holes(self) -> None:
        """Carry sequences over to lower slots where the gaps that others left behind cost too much."""
        if not self._mover:
            return
        moves = moves_to_close_holes(self._slots.in_use)
        if moves:
            holders = {r.slot: r for r in self._requests.values() if r.slot is not None}
            for slot, to in moves:
                self._mover.move(slot, to)
                self._slots.claim(to)
                self._slots.free(slot)
                request = holders[to] = holders.pop(slot)
                request.slot = to

    def _draft(self) -> None:
        if self._speculator is not None:
            running = (r for r in self._requests.values() if r.slot is not None)
            self._speculator.draft([r for r in running if r.is_generating])

    def _preempt(self, request: Request) -> None:
        assert request.slot is not None
        self._num_preempted += 1
        request.draft_token_ids = []
        followers = self._kv.preempt(request)
        request.status = RequestStatus.WAITING
        if self._speculator is not None:
            self._speculator.forget(request)
        self._vacate(request)
        for follower in followers:
            self.add_request(follower)

    def _place(self, scheduled: ScheduledRequest) -> Work:
        """Give a request its slot, and say what is to be computed of it."""
        request, start = scheduled.request, scheduled.request.num_computed_tokens
        if request.slot is None:
            request.slot = self._slots.allocate()
            request.status = RequestStatus.RUNNING
            self._kv.restore(request)
        end, length = start + scheduled.num_tokens, len(request.token_ids)
        del request.draft_token_ids[max(end - length, 0) :]
        token_ids = request.token_ids[start:end]
        if request.draft_token_ids:
            token_ids += request.draft_token_ids
        num_logits = max(end - length + 1, 0)
        if request.params.prompt_logprobs is not None and start < request.num_prompt_tokens:
            num_logits = end - start
        request.num_computed_tokens = end
        return Work(request.slot, start, token_ids, num_logits, request.adapters)

    def _commit(
        self,
        plan: Sequence[ScheduledRequest],
        batch: Sequence[Work],
        rows_seen: list[int],
        output: ModelOutput,
    ) -> list[RequestOutput]:
        """Make tokens of rows; `rows_seen` counts the rows of each work that earlier outputs brought."""
        outputs = [self._fail(plan[index].request, output.error) for index in output.failed]
        candidates: dict[Request, list[int]] = {}
        for row, index in enumerate(output.indices):
            work, request = batch[index], plan[index].request
            position = work.position + len(work.token_ids) - work.num_logits + rows_seen[index]
            rows_seen[index] += 1
            if position >= len(request.token_ids) - 1:
                candidates.setdefault(request, []).append(row)
            elif position + 1 < request.num_prompt_tokens:
                self._reporter.note_prompt(request, position + 1, output.logits[row])
        return outputs + self._verify(candidates, output.logits)

    def _verify(self, candidates: dict[Request, list[int]], logits: Logits) -> list[RequestOutput]:
        """Choose tokens, and go on over drafts for as long as they are what is chosen.

        Every choice is made from the model's own logits after tokens that were chosen, so the output is
        distributed as without drafts ("sample and match", as for deterministic drafts in Leviathan et
        al. 2023). All requests advance together, one row each at a time.

        Args:
            candidates: rows of each request: after its last token, then after each draft.
            logits: float32 `[rows, vocab_size]`.
        """
        outputs: dict[Request, RequestOutput] = {}
        computed: dict[Request, int] = {}
        for request in candidates:
            # Drafts count as computed one by one, as they prove right.
            request.num_computed_tokens -= len(request.draft_token_ids)
            computed[request] = request.num_computed_tokens
        going, depth = list(candidates), 0
        while going:
            rows = [candidates[request][depth] for request in going]
            chosen = logits if len(rows) == len(logits) else logits[rows]
            agreed = []
            for request, token in zip(going, self._sampler.sample(going, chosen), strict=True):
                output = self._append(request, token)
                earlier = outputs.get(request)
                outputs[request] = earlier.merge(output) if earlier else output
                if self._agrees(request, token, depth):
                    request.num_computed_tokens += 1
                    agreed.append(request)
            going, depth = agreed, depth + 1
        for request, before in computed.items():
            self._drop_drafts(request, request.num_computed_tokens - before)
        return list(outputs.values())

    def _agrees(self, request: Request, token: SampledToken | None, depth: int) -> bool:
        drafts = request.draft_token_ids
        return (
            token is not None
            and request.status is RequestStatus.RUNNING
            and depth < len(drafts)
            and drafts[depth] == token.token_id
            # Forced tokens may have been appended behind it.
            and len(request.token_ids) == request.num_computed_tokens + 1
        )

    def _drop_drafts(self, request: Request, accepted: int) -> None:
        """Forget the drafts that were verified, and what the runner computed of the wrong ones."""
        if not (proposed := len(request.draft_token_ids)):
            return
        request.draft_token_ids = []
        if self._speculator is not None:
            self._speculator.observe(request, proposed, accepted)
        if accepted < proposed and request.slot is not None:
            assert isinstance(self._runner, DraftVerifier)
            self._runner.truncate(request.slot, request.num_computed_tokens)

    def _append(self, request: Request, sampled: SampledToken | None) -> RequestOutput:
        """Add a token, and those that must follow it, and say what the caller may see."""
        if sampled is None:
            return self._fail(request, "the model produced logits that are not numbers")
        if len(request.token_ids) >= request.max_total_tokens:
            # Nothing is to be generated: the caller wants the prompt's log-probabilities.
            self._finish(request)
            return RequestOutput(
                request_id=request.request_id,
                finish_reason=FinishReason.LENGTH.value,
                num_cached_tokens=request.num_cached_tokens,
                prompt_reports=request.prompt_reports,
            )
        tokens = [sampled.token_id]
        try:
            if request.constraint is not None:
                request.constraint.accept(sampled.token_id)
                if request.params.logprobs is None:
                    tokens += request.constraint.forced()
                for token_id in tokens[1:]:
                    request.constraint.accept(token_id)
        except InvalidRequestError as error:
            return self._fail(request, error.message, code=error.code, param=error.param)
        first = len(request.token_ids) == request.num_prompt_tokens
        text, reason, count = "", None, 0
        for count, token_id in enumerate(tokens, start=1):
            request.token_ids.append(token_id)
            text += self._show(request, token_id)
            reason = self._reason_to_stop(request, token_id, is_last=count == len(tokens))
            if reason is not None:
                text += request.detokenizer.finish()
                self._finish(request)
                break
        return RequestOutput(
            request_id=request.request_id,
            text=text,
            num_tokens=count,
            finish_reason=reason.value if reason else None,
            stop_sequence=request.detokenizer.stop_sequence,
            num_cached_tokens=request.num_cached_tokens if first else None,
            prompt_reports=request.prompt_reports if first else [],
            reports=[] if sampled.logprob is None else [self._reporter.describe(sampled)],
        )

    def _show(self, request: Request, token_id: int) -> str:
        """The text that a token adds; tokens that end the output add none."""
        return "" if self._is_end(request, token_id) else request.detokenizer.feed(token_id)

    def _is_end(self, request: Request, token_id: int) -> bool:
        params = request.params
        return (token_id in self._ends and not params.ignore_eos) or (
            token_id in params.stop_token_ids
        )

    def _reason_to_stop(
        self, request: Request, token_id: int, *, is_last: bool
    ) -> FinishReason | None:
        complete = is_last and request.constraint is not None and request.constraint.finished
        if complete or request.detokenizer.stopped or self._is_end(request, token_id):
            return FinishReason.STOP
        if len(request.token_ids) >= request.max_total_tokens:
            return FinishReason.LENGTH
        return None

    def _fail(
        self,
        request: Request,
        message: str,
        *,
        code: str = EngineError.code,
        param: str | None = None,
    ) -> RequestOutput:
        # What a failed pass left in the slot is not what the tokens say.
        self._finish(request, keep=False)
        return RequestOutput(
            request_id=request.request_id,
            finish_reason=FinishReason.ERROR.value,
            error=(code, message),
            param=param,
        )

    def _finish(self, request: Request, *, keep: bool = True) -> None:
        request.status = RequestStatus.FINISHED
        self._sampler.forget(request.request_id)
        if self._speculator is not None:
            self._speculator.forget(request)
        del self._requests[request.request_id]
        if not self._kv.unpark(request):
            self._scheduler.finish_request(request)
        for follower in self._kv.leave(request, keep=keep):
            self.add_request(follower)
        if request.slot is not None:
            self._vacate(request)
        self._on_finish(request)

    def _vacate(self, request: Request) -> None:
        assert request.slot is not None
        self._runner.release(request.slot)
        self._slots.free(request.slot)
        request.slot = None
