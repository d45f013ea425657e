"""The contract, with MLX on the processor: on Linux that takes `mlx[cpu]`, which the tests install."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from support.mlx_folders import ATTENTION, MAMBA, mlx_folder

from inferflux_core.config.schema import RuntimeConfig
from inferflux_core.testing import BackendContract


class OnRandomModel(BackendContract):
    plugin_name = "mlx-cpu"
    runtime = RuntimeConfig(max_num_seqs=4, max_model_len=256)
    near_tie = 1e-3  # float32 and random weights: the order of additions shows
    config: ClassVar[dict[str, Any]]
    bits: ClassVar[int | None] = None

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        folder = tmp_path_factory.mktemp(cls.__name__)
        cls.model = str(mlx_folder(folder, cls.config, bits=cls.bits))


class TestQuantized(OnRandomModel):
    config = ATTENTION
    bits = 4


class TestSlidingWindow(OnRandomModel):
    """Gemma 3: every second layer sees four tokens back."""

    config: ClassVar = ATTENTION | {
        "model_type": "gemma3_text",
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 4,
        "sliding_window_pattern": 2,
    }


class TestRecurrent(OnRandomModel):
    """What is kept is no keys and values: sequences are computed one by one."""

    config = MAMBA
