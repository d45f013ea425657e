"""Random models of mlx-lm's families, in folders as its converter writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx_lm.utils
from mlx.utils import tree_flatten
from support.hf_folders import SMOLLM2_TOKENIZER_CONFIG, TINY_VOCAB, tiny_tokenizer, write_json

__all__ = ["ATTENTION", "MAMBA", "mlx_folder"]

ATTENTION: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "vocab_size": TINY_VOCAB,
    "eos_token_id": 2,
}
MAMBA: dict[str, Any] = {
    "model_type": "mamba",
    "hidden_size": 64,
    "intermediate_size": 128,
    "state_size": 8,
    "num_hidden_layers": 2,
    "conv_kernel": 4,
    "use_bias": False,
    "use_conv_bias": True,
    "time_step_rank": 4,
    "vocab_size": TINY_VOCAB,
    "eos_token_id": 2,
}


def mlx_folder(folder: Path, config: dict[str, Any], *, bits: int | None = None) -> Path:
    """Write a random model in float32, or quantized."""
    mx.set_default_device(mx.cpu)
    mx.random.seed(7)
    model_class, arguments = mlx_lm.utils._get_classes(config)
    model: nn.Module = model_class(arguments.from_dict(config))
    # As they are made, they hardly tell tokens apart.
    weights = [(name, weight * 3) for name, weight in tree_flatten(model.parameters())]
    model.load_weights(weights)
    if bits is not None:
        config = config | {"quantization": {"group_size": 32, "bits": bits}}
        nn.quantize(model, group_size=32, bits=bits)
    folder.mkdir(exist_ok=True)
    mx.save_safetensors(
        str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())), {"format": "mlx"}
    )
    write_json(folder / "config.json", config)
    write_json(folder / "tokenizer.json", tiny_tokenizer())
    write_json(folder / "tokenizer_config.json", SMOLLM2_TOKENIZER_CONFIG)
    return folder
