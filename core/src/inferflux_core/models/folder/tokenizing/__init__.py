"""Texts to tokens and back, as a model's folder says."""

from inferflux_core.models.folder.tokenizing.hf_tokenizer import (
    HfTokenizer,
    PairFrame,
    load_tokenizer,
)

__all__ = ["HfTokenizer", "PairFrame", "load_tokenizer"]
