"""Several choices of one prompt."""

from __future__ import annotations

from inferflux_core.engine.engine import Engine
from inferflux_core.engine.kv.manager import KVCacheManager
from inferflux_core.engine.scheduler import SchedulerLimits
from inferflux_core.schedulers.fcfs import FCFSScheduler
from inferflux_core.testing import DeterministicRunner, make_request

CHOICES = 16
PROMPT = [(7 * i) % 250 for i in range(197)]
ANSWER = 4


def test_sixteen_choices_compute_the_prompt_once() -> None:
    """But for its last token, whose logits every choice needs for itself."""
    runner = DeterministicRunner(max_num_seqs=CHOICES, max_model_len=512)
    limits = SchedulerLimits(max_num_seqs=CHOICES, max_num_batched_tokens=64, prefill_quantum=1)
    engine = Engine(runner, FCFSScheduler(limits), KVCacheManager(runner, 1 << 20))
    requests = [
        make_request(PROMPT, max_tokens=ANSWER, context=512, temperature=1.0, seed=seed)
        for seed in range(CHOICES)
    ]
    for request in requests:
        engine.add_request(request)

    while engine.has_unfinished_requests:
        for _ in engine.step():
            pass

    assert runner.num_computed_tokens <= len(PROMPT) + CHOICES * ANSWER
    assert all(request.num_cached_tokens == len(PROMPT) - 1 for request in requests[1:])
    assert len({tuple(r.output_token_ids) for r in requests}) > CHOICES // 2
