"""What Hugging Face's models compute, in numpy: Llama, Qwen 2, 3, Gemma 3 and Phi-3, as their papers say."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def logits_of(config: dict[str, Any], weights: dict[str, Array], tokens: list[int]) -> Array:
    """The logits `[tokens, vocab]` of a text."""
    gemma = config["architectures"][0].startswith("Gemma3")
    embeddings = weights["model.embed_tokens.weight"].astype(np.float64)
    states = embeddings[tokens] * (np.sqrt(config["hidden_size"]) if gemma else 1)
    for layer in range(config["num_hidden_layers"]):
        states = _Layer(config, weights, layer).apply(states)
    states = _norm(config, states, weights["model.norm.weight"])
    output = embeddings if config["tie_word_embeddings"] else weights["lm_head.weight"]
    return states @ output.T.astype(np.float64)


class _Layer:
    def __init__(self, config: dict[str, Any], weights: dict[str, Array], layer: int) -> None:
        prefix = f"model.layers.{layer}."
        self._config = config
        self._weights = {
            name.removeprefix(prefix): numbers.astype(np.float64)
            for name, numbers in weights.items()
            if name.startswith(prefix)
        }
        self._split_fused()
        kinds = config.get("layer_types") or []
        self._windowed = kinds[layer : layer + 1] == ["sliding_attention"]
        self._gemma = config["architectures"][0].startswith("Gemma3")

    def _split_fused(self) -> None:
        heads, heads_kv = (self._config[f"num_{kind}_heads"] for kind in ("attention", "key_value"))
        if "self_attn.qkv_proj.weight" in self._weights:
            whole = self._weights["self_attn.qkv_proj.weight"]
            ends = [
                part * len(whole) // (heads + 2 * heads_kv) for part in (heads, heads + heads_kv)
            ]
            for letter, rows in zip("qkv", np.split(whole, ends), strict=True):
                self._weights[f"self_attn.{letter}_proj.weight"] = rows
            gate, up = np.split(self._weights["mlp.gate_up_proj.weight"], 2)
            self._weights |= {"mlp.gate_proj.weight": gate, "mlp.up_proj.weight": up}

    def apply(self, states: Array) -> Array:
        after_attention = self._attend(self._norm("input_layernorm", states))
        if not self._gemma:
            states = states + after_attention
            return states + self._feed_forward(self._norm("post_attention_layernorm", states))
        states = states + self._norm("post_attention_layernorm", after_attention)
        fed = self._feed_forward(self._norm("pre_feedforward_layernorm", states))
        return states + self._norm("post_feedforward_layernorm", fed)

    def _norm(self, name: str, states: Array) -> Array:
        return _norm(self._config, states, self._weights[f"{name}.weight"])

    def _linear(self, name: str, states: Array) -> Array:
        return states @ self._weights[f"{name}.weight"].T + self._weights.get(f"{name}.bias", 0)

    def _feed_forward(self, states: Array) -> Array:
        gate = self._linear("mlp.gate_proj", states)
        if self._gemma:
            gate *= 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
        else:
            gate /= 1 + np.exp(-gate)
        return self._linear("mlp.down_proj", gate * self._linear("mlp.up_proj", states))

    def _attend(self, states: Array) -> Array:
        config = self._config
        heads, heads_kv = config["num_attention_heads"], config["num_key_value_heads"]
        width = config.get("head_dim") or config["hidden_size"] // heads
        queries, keys, values = (
            self._linear(f"self_attn.{letter}_proj", states).reshape(len(states), -1, width)
            for letter in "qkv"
        )
        if "self_attn.q_norm.weight" in self._weights:
            queries = self._norm("self_attn.q_norm", queries)
            keys = self._norm("self_attn.k_norm", keys)
        queries, keys = self._rotate(queries), self._rotate(keys)
        keys, values = (np.repeat(each, heads // heads_kv, axis=1) for each in (keys, values))
        scores = np.einsum("qhd,khd->hqk", queries, keys) / np.sqrt(width)
        distance = np.arange(len(states))[:, None] - np.arange(len(states))
        hidden = distance < 0
        if self._windowed:
            hidden |= distance >= config["sliding_window"]
        scores = np.where(hidden, -np.inf, scores)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", shares, values).reshape(len(states), -1)
        return self._linear("self_attn.o_proj", mixed)

    def _rotate(self, heads: Array) -> Array:
        rotated = int(heads.shape[-1] * self._config.get("partial_rotary_factor", 1))
        heads, rest = np.split(heads, [rotated], -1)
        half = rotated // 2
        base = self._config["rope_local_base_freq" if self._windowed else "rope_theta"]
        frequencies = base ** (-np.arange(half) / half)
        scaling = self._config.get("rope_scaling")
        if scaling and not self._windowed:
            frequencies = _scaled(frequencies, scaling)
        angles = (np.arange(len(heads))[:, None] * frequencies)[:, None]
        left, right = heads[..., :half], heads[..., half:]
        sines, cosines = (wave(angles) * _stretch(self._config) for wave in (np.sin, np.cos))
        turned = [left * cosines - right * sines, right * cosines + left * sines]
        return np.concatenate([*turned, rest], -1)


def _norm(config: dict[str, Any], states: Array, weight: Array) -> Array:
    shift = 1.0 if config["architectures"][0].startswith("Gemma3") else 0.0
    scale = np.sqrt((states**2).mean(-1, keepdims=True) + config["rms_norm_eps"])
    return states / scale * (weight + shift)


def _stretch(config: dict[str, Any]) -> float:
    """What LongRoPE multiplies sines and cosines by."""
    if (config.get("rope_scaling") or {}).get("rope_type") != "longrope":
        return 1.0
    original = config["original_max_position_embeddings"]
    return float(
        np.sqrt(1 + np.log(config["max_position_embeddings"] / original) / np.log(original))
    )


def _scaled(frequencies: Array, scaling: dict[str, Any]) -> Array:
    if scaling["rope_type"] == "longrope":  # for texts that are not long
        return frequencies / np.array(scaling["short_factor"])
    factor = scaling["factor"]
    if scaling["rope_type"] == "linear":
        return frequencies / factor
    assert scaling["rope_type"] == "llama3"
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    context = scaling["original_max_position_embeddings"]
    scaled = []
    for frequency in frequencies:
        wavelength = 2 * np.pi / frequency
        if wavelength < context / high:
            scaled.append(frequency)
        elif wavelength > context / low:
            scaled.append(frequency / factor)
        else:
            blend = (context / wavelength - low) / (high - low)
            scaled.append((1 - blend) * frequency / factor + blend * frequency)
    return np.array(scaled)
