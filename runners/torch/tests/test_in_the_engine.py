"""The engine's golden tests with this runner."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.golden import check_golden
from support.hf_folders import SMOLLM2, tiny_folder
from support.torch_runners import exact_runner

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.detokenizer import Detokenizer
from inferflux_core.engine.engine import Engine
from inferflux_core.engine.kv.manager import KVCacheManager
from inferflux_core.engine.request import Request
from inferflux_core.engine.sampling_params import SamplingParams
from inferflux_core.engine.scheduler import SchedulerLimits
from inferflux_core.engine.speculation.ngram import NgramDrafter
from inferflux_core.engine.speculation.speculator import Speculator
from inferflux_core.models.reference import resolve
from inferflux_core.schedulers.fcfs import FCFSScheduler
from inferflux_runner_torch import load
from inferflux_runner_torch.runner import TorchRunner

REFRAIN = "The rain in Spain stays mainly in the plain, and the snow in Norway stays mainly in the north.\n"
_ids = itertools.count()


@pytest.mark.parametrize("seed", range(1, 5))
def test_requests_do_not_see_each_other(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With windows in one of two layers, and with blocks that are shared."""
    folder = tiny_folder(tmp_path / "model", "Gemma3ForCausalLM", dtype="F32", head_dim=16)
    runner, cache = exact_runner(folder, capacity=192, max_rows=64, block_size=16)
    lone, _ = exact_runner(folder, slots=1, capacity=192, max_rows=192)
    shared: list[bool] = []
    share = runner.share

    def noted(slot: int, to: int, length: int) -> bool:
        shared.append(share(slot, to, length))
        return shared[-1]

    monkeypatch.setattr(runner, "share", noted)
    check_golden(runner, lone, seed, cache.check_integrity)
    assert any(shared)


@pytest.fixture(scope="module")
def real_runner() -> Iterator[TorchRunner]:
    """Its passes are not timed, so that every draft is worth verifying."""
    runner = load(
        ModelConfig(path=str(resolve(SMOLLM2))),
        RuntimeConfig(max_num_seqs=1, max_model_len=256, threads=1),
    )
    assert isinstance(runner, TorchRunner)
    yield runner
    runner.close()


@pytest.mark.parametrize(
    "params", [{"temperature": 0.0}, {"temperature": 0.6, "seed": 7}], ids=["greedy", "sampled"]
)
def test_a_real_model_writes_the_same_with_and_without_drafts(
    real_runner: TorchRunner, params: dict[str, Any]
) -> None:
    prompt = real_runner.tokenizer.encode(REFRAIN * 3, add_special=True, parse_special=False)
    speculator = Speculator([NgramDrafter()], real_runner.capabilities, max_draft_tokens=8)
    answers = []
    for drafts in (None, speculator):
        limits = SchedulerLimits(max_num_seqs=1, max_num_batched_tokens=128)
        engine = Engine(real_runner, FCFSScheduler(limits), KVCacheManager(real_runner, 0), drafts)
        sampling = SamplingParams(max_tokens=48, ignore_eos=True, **params)
        request = Request(
            request_id=next(_ids),
            token_ids=list(prompt),
            params=sampling,
            detokenizer=Detokenizer(real_runner.tokenizer.piece, ()),
            max_total_tokens=len(prompt) + 48,
        )
        engine.add_request(request)
        while engine.has_unfinished_requests:
            list(engine.step())
        answers.append(request.output_token_ids)
    assert answers[0] == answers[1]
    assert speculator.num_accepted > 10
