"""Small models of every family of decoders, as changes to the configuration of its architecture."""

from __future__ import annotations

from typing import Any

LLAMA3: dict[str, Any] = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN: dict[str, Any] = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 128,
}
LONGROPE: dict[str, Any] = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0],
    "long_factor": [2.0, 2.4, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"model_type": "llama"}),
    "llama, tied": ("Llama", {"model_type": "llama", "tie_word_embeddings": True}),
    "llama, with biases": (
        "Llama",
        {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    ),
    "llama, wide heads": ("Llama", {"model_type": "llama", "head_dim": 32}),
    "llama, one head of keys": ("Llama", {"model_type": "llama", "num_key_value_heads": 1}),
    "llama 3": ("Llama", {"model_type": "llama", "rope_scaling": LLAMA3}),
    "llama, linear": (
        "Llama",
        {"model_type": "llama", "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    ),
    "mistral": ("Mistral", {"model_type": "mistral", "sliding_window": None}),
    "mistral, with a window": ("Mistral", {"model_type": "mistral", "sliding_window": 7}),
    "qwen2": ("Qwen2", {"model_type": "qwen2"}),
    "qwen2, with a window": (
        "Qwen2",
        {
            "model_type": "qwen2",
            "use_sliding_window": True,
            "sliding_window": 7,
            "max_window_layers": 1,
        },
    ),
    "qwen2, yarn": ("Qwen2", {"model_type": "qwen2", "rope_scaling": YARN}),
    "qwen3": ("Qwen3", {"model_type": "qwen3", "head_dim": 16}),
    "gemma 3": ("Gemma3", {"model_type": "gemma3_text", "head_dim": 16}),
    "gemma 3, with a cap": (
        "Gemma3",
        {"model_type": "gemma3_text", "head_dim": 16, "final_logit_softcapping": 5.0},
    ),
    "phi 3": ("Phi3", {"model_type": "phi3", "sliding_window": None, "pad_token_id": 0}),
    "phi 3, partly rotated": (
        "Phi3",
        {
            "model_type": "phi3",
            "sliding_window": 9,
            "partial_rotary_factor": 0.5,
            "pad_token_id": 0,
        },
    ),
    "phi 3, long": (
        "Phi3",
        {
            "model_type": "phi3",
            "sliding_window": None,
            "rope_scaling": LONGROPE,
            "original_max_position_embeddings": 256,
            "pad_token_id": 0,
        },
    ),
}
