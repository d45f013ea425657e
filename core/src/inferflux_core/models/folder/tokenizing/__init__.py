"""Texts to tokens and back, as a model's folder says."""

from inferflux_core.models.folder.tokenizing.hf_tokenizer import HfTokenizer, load_tokenizer

__all__ = ["HfTokenizer", "load_tokenizer"]
