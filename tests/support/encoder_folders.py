"""Encoders of a few kilobytes, with random weights, as transformers saves them."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import torch
from support.hf_folders import write_json
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

WORDS = ("a", "the", "cat", "dog", "sat", "ran", "mat", "far", "on", "hello", "paris", "##s")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTEXT = 64
KINDS = {"bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta"}
"""What transformers calls them, in configurations and in names of classes."""


def encoder_folder(
    folder: Path,
    kind: str = "bert",
    *,
    ranks: bool = False,
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> Path:
    """Write a model that embeds or ranks."""
    first = 0 if kind == "bert" else 2
    config = AutoConfig.for_model(
        kind,
        **{
            "hidden_size": 32,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "intermediate_size": 48,
            "max_position_embeddings": CONTEXT + first,
            "type_vocab_size": 1 if first else 2,
            "vocab_size": 320,
            "initializer_range": 0.4,
            "num_labels": 1,
        }
        | changes,
    )
    torch.manual_seed(1)
    auto = AutoModelForSequenceClassification if ranks else AutoModel
    model = auto.from_config(config, dtype=dtype)
    with torch.no_grad():
        # They begin as zeros and ones, which hides what is left out.
        for name, weight in model.named_parameters():
            if name.endswith("bias") or "LayerNorm" in name:
                weight += torch.randn_like(weight) / 4
    model.save_pretrained(folder)
    write_json(folder / "tokenizer.json", word_pieces() if kind == "bert" else bytes_of_words())
    return folder


def sentence_files(
    folder: Path,
    mode: str = "mean_tokens",
    *,
    normalised: bool = False,
    max_tokens: int | None = None,
) -> Path:
    """Write what sentence-transformers adds to a folder."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalised else [])]
    modules = [
        {
            "idx": number,
            "name": str(number),
            "path": f"{number}_{kind}" if number else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for number, kind in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    write_json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": False}
        | {f"pooling_mode_{mode}": True},
    )
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens})
    return folder


@functools.cache
def word_pieces() -> dict[str, Any]:
    """BERT's way to tokenize, with few words."""
    vocab = {name: number for number, name in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return dict(json.loads(tokenizer.to_str()))


@functools.cache
def bytes_of_words() -> dict[str, Any]:
    """RoBERTa's, with nothing merged."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {name: number for number, name in enumerate([*special, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return dict(json.loads(tokenizer.to_str()))
