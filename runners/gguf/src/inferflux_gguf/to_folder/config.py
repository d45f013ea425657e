"""What a `config.json` would say of the model in a GGUF file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from inferflux_gguf.contents import Contents
from inferflux_gguf.metadata import MAX_WIDTH
from inferflux_gguf.to_folder.rope import describe_rope, shortest

__all__ = ["make_config"]

_MAX_LAYERS: Final = 512
_MAX_CONTEXT: Final = 1 << 30
_PATTERN: Final = 6
"""Of Gemma 3: every sixth layer sees everything."""
_SILU: Final = {"hidden_act": "silu"}
_KNOWN: Final = frozenset(
    {
        *("block_count", "context_length", "embedding_length", "feed_forward_length"),
        *("vocab_size", "attention.head_count", "attention.head_count_kv"),
        *("attention.key_length", "attention.value_length", "attention.layer_norm_rms_epsilon"),
        *("attention.causal", "attention.sliding_window", "attention.sliding_window_pattern"),
        *("rope.dimension_count", "rope.freq_base", "rope.freq_base_swa"),
        *("rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length"),
        *("rope.scaling.finetuned", "rope.scaling.attn_factor"),
        *("rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow"),
        *("final_logit_softcapping", "expert_count", "expert_used_count"),
    }
)
"""All keys of a family that have a meaning here; another one might change what is computed."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """How Hugging Face calls a family, and what its configs say besides the usual."""

    architecture: str
    model_type: str
    extras: Callable[[Contents, dict[str, Any]], dict[str, Any]]


def make_config(contents: Contents) -> dict[str, Any]:
    """The config of a model.

    Raises:
        ModelLoadError: its family is unknown, or something is missing or out of range.
    """
    family = contents.architecture
    kind = _KINDS.get(family)
    if kind is None:
        raise contents.error(
            f"models of the architecture {family[:100]!r} cannot be turned into safetensors",
            hint=f"known are {', '.join(_KINDS)}",
        )
    for key in contents.keys_under(f"{family}."):
        if key not in _KNOWN:
            raise contents.error(f"{family}.{key} is a setting that is not known here")
    if contents.integer(f"{family}.expert_count", 0, 0, MAX_WIDTH):
        raise contents.error("it is a mixture of experts, which cannot be turned into safetensors")
    if not contents.flag(f"{family}.attention.causal", default=True):
        raise contents.error("it sees later tokens too, and so only embeds")
    config = _usual(contents)
    config = {"architectures": [kind.architecture], "model_type": kind.model_type, **config}
    return config | describe_rope(contents, config) | kind.extras(contents, config)


def _usual(contents: Contents) -> dict[str, Any]:
    family = contents.architecture

    def size(key: str, default: int | None = None) -> int:
        return contents.integer(f"{family}.{key}", default, 1, MAX_WIDTH)

    layers = contents.integer(f"{family}.block_count", None, 1, _MAX_LAYERS)
    width, heads = size("embedding_length"), size("attention.head_count")
    head = size("attention.key_length", width // heads)
    if size("attention.value_length", width // heads) != head:
        raise contents.error("keys and values have different sizes")
    embeddings = contents.tensors.get("token_embd.weight")
    if embeddings is None:
        raise contents.error("it has no embeddings ('token_embd.weight')")
    return {
        "vocab_size": embeddings.shape[0],
        "hidden_size": width,
        "intermediate_size": size("feed_forward_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": size("attention.head_count_kv", heads),
        "head_dim": head,
        "max_position_embeddings": contents.integer(
            f"{family}.context_length", None, 1, _MAX_CONTEXT
        ),
        "rms_norm_eps": shortest(
            contents.number(f"{family}.attention.layer_norm_rms_epsilon", None)
        ),
        "tie_word_embeddings": "output.weight" not in contents.tensors,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
    }


def _llama(contents: Contents, config: dict[str, Any]) -> dict[str, Any]:
    return _SILU | {
        "attention_bias": "blk.0.attn_q.bias" in contents.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in contents.tensors,
    }


def _qwen2(contents: Contents, config: dict[str, Any]) -> dict[str, Any]:
    return _SILU | {"use_sliding_window": False}


def _qwen3(contents: Contents, config: dict[str, Any]) -> dict[str, Any]:
    return _SILU | {"attention_bias": False, "use_sliding_window": False}


def _gemma3(contents: Contents, config: dict[str, Any]) -> dict[str, Any]:
    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    # llama.cpp takes the scale of attention from the width of a head, except in the largest model.
    scalar = config["hidden_size"] // heads if layers == 62 else config["head_dim"]
    cap = contents.number("gemma3.final_logit_softcapping", 0.0)
    window = contents.integer("gemma3.attention.sliding_window", 0, 0, _MAX_CONTEXT)
    windowed = _windowed(contents, layers) if window else [False] * layers
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "query_pre_attn_scalar": scalar,
        "sliding_window": window or config["max_position_embeddings"],
        "layer_types": ["sliding_attention" if near else "full_attention" for near in windowed],
        "final_logit_softcapping": cap or None,
        "attn_logit_softcapping": None,
    }


def _windowed(contents: Contents, layers: int) -> list[bool]:
    """For each layer, whether it sees the last tokens only."""
    key = "gemma3.attention.sliding_window_pattern"
    flags = contents.flags(key)
    if not flags:
        pattern = contents.integer(key, _PATTERN, 1, _MAX_LAYERS)
        return [(layer + 1) % pattern != 0 for layer in range(layers)]
    if len(flags) != layers:
        raise contents.error(f"{key!r} has {len(flags)} elements for {layers} layers")
    return flags


def _phi3(contents: Contents, config: dict[str, Any]) -> dict[str, Any]:
    # llama.cpp leaves the window out, which is the same up to its length.
    window = contents.integer("phi3.attention.sliding_window", 0, 0, _MAX_CONTEXT)
    return _SILU | {"sliding_window": window or None}


_KINDS: Final = {
    "llama": _Kind("LlamaForCausalLM", "llama", _llama),
    "qwen2": _Kind("Qwen2ForCausalLM", "qwen2", _qwen2),
    "qwen3": _Kind("Qwen3ForCausalLM", "qwen3", _qwen3),
    "gemma3": _Kind("Gemma3ForCausalLM", "gemma3_text", _gemma3),
    "phi3": _Kind("Phi3ForCausalLM", "phi3", _phi3),
}
