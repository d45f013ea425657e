"""A BERT of a few kilobytes, with random weights: as a GGUF file, and in numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

WIDTH, HEADS, LAYERS, HIDDEN, CONTEXT = 32, 2, 2, 64, 64
CLS, SEP = 2, 3
WORDS = ("a", "the", "cat", "dog", "sat", "ran", "mat", "far", "on", "hello", "paris", "france")
# llama.cpp marks what begins a word, where BERT's own vocabulary marks what does not.
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"\u2581{word}" for word in WORDS))
_EPSILON = 1e-12


def make_bert(path: Path, *, pooling: gguf.PoolingType = gguf.PoolingType.MEAN) -> Path:
    """Write a model that pools in one of the ways BERTs do; with `RANK` it has a head for scores."""
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(_EPSILON)
    writer.add_causal_attention(False)
    writer.add_pooling_type(pooling)
    writer.add_tokenizer_model("bert")
    writer.add_token_type_count(2)
    writer.add_token_list(VOCABULARY)
    writer.add_token_types([3] * 5 + [1] * len(WORDS))
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(CLS)
    writer.add_sep_token_id(SEP)
    writer.add_mask_token_id(4)
    for name, weight in weights(ranks=pooling is gguf.PoolingType.RANK).items():
        writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def weights(*, ranks: bool) -> dict[str, Array]:
    """All tensors by GGUF's names; matrices are `[outputs, inputs]`."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(VOCABULARY), WIDTH),
        "token_types.weight": (2, WIDTH),
        "position_embd.weight": (CONTEXT, WIDTH),
        **_norm("token_embd_norm"),
    }
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes |= _linear(f"{block}.{name}", WIDTH, WIDTH)
        shapes |= _linear(f"{block}.ffn_up", WIDTH, HIDDEN)
        shapes |= _linear(f"{block}.ffn_down", HIDDEN, WIDTH)
        shapes |= _norm(f"{block}.attn_output_norm") | _norm(f"{block}.layer_output_norm")
    if ranks:
        shapes |= _linear("cls", WIDTH, WIDTH) | _linear("cls.output", WIDTH, 1)
    draw = np.random.default_rng(7)
    return {
        name: (draw.standard_normal(shape) / np.sqrt(shape[-1]) * 2).astype(np.float32)
        for name, shape in shapes.items()
    }


def reference(token_ids: Sequence[int], *, ranks: bool = False) -> Array:
    """The states of all tokens after the last layer: `[tokens, WIDTH]`."""
    w = weights(ranks=ranks)
    x = w["token_embd.weight"][list(token_ids)] + w["token_types.weight"][0]
    x = _normalise(x + w["position_embd.weight"][: len(token_ids)], w, "token_embd_norm")
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        q, k, v = (
            _apply(x, w, f"{block}.attn_{kind}").reshape(len(x), HEADS, -1).transpose(1, 0, 2)
            for kind in "qkv"
        )
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(WIDTH // HEADS)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ v
        mixed = mixed.transpose(1, 0, 2).reshape(len(x), WIDTH)
        x = _normalise(x + _apply(mixed, w, f"{block}.attn_output"), w, f"{block}.attn_output_norm")
        hidden = _gelu(_apply(x, w, f"{block}.ffn_up"))
        x = _normalise(x + _apply(hidden, w, f"{block}.ffn_down"), w, f"{block}.layer_output_norm")
    return x


def reference_score(token_ids: Sequence[int]) -> float:
    """What the head for scores makes of the state of the first token."""
    w = weights(ranks=True)
    pooled = np.tanh(_apply(reference(token_ids, ranks=True)[:1], w, "cls"))
    return float(_apply(pooled, w, "cls.output")[0, 0])


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}


def _apply(x: Array, w: Mapping[str, Array], name: str) -> Array:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _normalise(x: Array, w: Mapping[str, Array], name: str) -> Array:
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + _EPSILON)
    centred = (x - x.mean(axis=-1, keepdims=True)) / deviation
    scaled: Array = centred * w[f"{name}.weight"] + w[f"{name}.bias"]
    return scaled


def _gelu(x: Array) -> Array:
    smooth: Array = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return smooth
