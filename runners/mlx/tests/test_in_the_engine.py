"""The engine's golden test with this runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.golden import check_golden
from support.mlx_folders import ATTENTION, MAMBA, mlx_folder

import inferflux_runner_mlx
from inferflux_core.config.schema import ModelConfig, RuntimeConfig


@pytest.mark.parametrize(
    ("config", "seed"),
    [(ATTENTION, 1), (ATTENTION, 2), (MAMBA, 1)],
    ids=["slots", "slots again", "one by one"],
)
def test_requests_do_not_see_each_other(tmp_path: Path, config: dict[str, Any], seed: int) -> None:
    folder = mlx_folder(tmp_path, config)
    runtime = RuntimeConfig(max_num_seqs=4, max_model_len=192)
    runner, lone = (
        inferflux_runner_mlx.load(ModelConfig(path=str(folder)), runtime, on_cpu=True)
        for _ in range(2)
    )
    check_golden(runner, lone, seed, lambda: None)
