"""The golden test of the engine, for runners whose numbers do not depend on what else is in a batch."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from inferflux_core.engine.detokenizer import Detokenizer
from inferflux_core.engine.engine import Engine
from inferflux_core.engine.kv.manager import KVCacheManager
from inferflux_core.engine.request import Request
from inferflux_core.engine.runner import ModelRunner
from inferflux_core.engine.sampling_params import SamplingParams
from inferflux_core.engine.scheduler import SchedulerLimits, SchedulerOutput
from inferflux_core.schedulers.fcfs import FCFSScheduler
from inferflux_core.testing.driving import Driver

REQUESTS = 14
VOCAB = 2000
_ids = itertools.count()


class _Preempting(FCFSScheduler):
    """Preempts whoever came last, now and then."""

    def __init__(self, limits: SchedulerLimits, rng: random.Random) -> None:
        super().__init__(limits)
        self._rng = rng

    def schedule(self) -> SchedulerOutput:
        preempted = []
        if len(self._running) > 1 and self._rng.random() < 0.1:
            _, victim = self._running.popitem()
            self._waiting.push(victim)
            preempted.append(victim)
        output = super().schedule()
        return SchedulerOutput(output.scheduled, preempted + output.preempted)


def check_golden(
    runner: ModelRunner, lone: ModelRunner, seed: int, after_step: Callable[[], None]
) -> None:
    """Whatever comes and goes around it, a request gets the tokens it would get alone.

    Requests arrive, are aborted and preempted at random; some begin alike.

    Args:
        runner: computes them together.
        lone: the same model once more, which computes each alone.
        seed: of what happens.
        after_step: called after every step of the engine.
    """
    rng = random.Random(seed)
    limits = SchedulerLimits(max_num_seqs=4, max_num_batched_tokens=72, prefill_quantum=64)
    engine = Engine(runner, _Preempting(limits, rng), KVCacheManager(runner, 1 << 20))
    beginning = [rng.randrange(VOCAB) for _ in range(120)]
    requests: list[tuple[Request, list[int]]] = []
    aborted = []
    while len(requests) < REQUESTS or engine.has_unfinished_requests:
        if len(requests) < REQUESTS and rng.random() < 0.4:
            shared = beginning[: rng.choice([0, 40, 120])]
            prompt = shared + [rng.randrange(VOCAB) for _ in range(rng.randint(1, 50))]
            request = _request(runner, prompt, rng.randint(2, 14))
            requests.append((request, prompt))
            engine.add_request(request)
            if rng.random() < 0.2:
                aborted.append(request.request_id)
        elif aborted and rng.random() < 0.2:
            engine.abort_request(aborted.pop())
        for _ in engine.step():
            pass
        engine.check_integrity()
        after_step()
    _check_answers(Driver(lone), requests)


def _request(runner: ModelRunner, prompt: list[int], max_tokens: int) -> Request:
    params = SamplingParams(temperature=0.0, ignore_eos=True, max_tokens=max_tokens)
    return Request(
        request_id=next(_ids),
        token_ids=list(prompt),
        params=params,
        detokenizer=Detokenizer(runner.tokenizer.piece, params.stop),
        max_total_tokens=min(runner.capabilities.max_model_len, len(prompt) + max_tokens),
    )


def _check_answers(driver: Driver, requests: list[tuple[Request, list[int]]]) -> None:
    answered = 0
    for request, prompt in requests:
        got = request.output_token_ids
        if got:
            assert got == driver.generate(0, prompt, len(got))
            driver.release(0)
        answered += len(got) > 1
    assert answered >= REQUESTS // 2
