"""The contract, with random models on torch."""

from __future__ import annotations

from typing import ClassVar

import pytest
from support.hf_folders import tiny_folder

from inferflux_core.config.schema import RuntimeConfig
from inferflux_core.testing import BackendContract


class OnRandomFolder(BackendContract):
    plugin_name = "cpu"
    runtime = RuntimeConfig(threads=1, max_num_seqs=4, max_model_len=256)
    architecture: ClassVar[str]
    dtype: ClassVar[str]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        folder = tmp_path_factory.mktemp(cls.__name__)
        cls.model = str(tiny_folder(folder, cls.architecture, dtype=cls.dtype))


class TestTorch(OnRandomFolder):
    """Plain torch, as the weights are in float32; every second layer sees four tokens back."""

    architecture = "Gemma3ForCausalLM"
    dtype = "F32"
    near_tie = 0.01  # keys and values are float16


class TestTorchWithKernels(OnRandomFolder):
    """Where they are installed."""

    architecture = "Qwen3ForCausalLM"
    dtype = "BF16"
    near_tie = 0.01
