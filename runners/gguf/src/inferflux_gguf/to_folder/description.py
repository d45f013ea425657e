"""All that a folder says of a model, apart from its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from inferflux_gguf.contents import Contents
from inferflux_gguf.to_folder.config import make_config
from inferflux_gguf.to_folder.tokenizer import make_tokenizer
from inferflux_gguf.to_folder.tokens import Tokens, read_tokens

__all__ = ["Description", "describe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What the files of a folder hold.

    Attributes:
        config: of `config.json`, but for the type of the weights.
        tokenizer: of `tokenizer.json`.
        tokens: what the other files say of the tokenizer.
        chat_template: makes a prompt of a conversation; "" if there is none.
    """

    config: dict[str, Any]
    tokenizer: dict[str, Any]
    tokens: Tokens
    chat_template: str

    @property
    def generation_config(self) -> dict[str, Any]:
        """Of `generation_config.json`: all tokens that end answers."""
        ends = self.tokens.ends
        return {
            "bos_token_id": self.tokens.bos,
            "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
            "pad_token_id": self.tokens.padding,
        }

    @property
    def tokenizer_config(self) -> dict[str, Any]:
        """Of `tokenizer_config.json`."""
        tokens = self.tokens
        described = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.config["max_position_embeddings"],
            "clean_up_tokenization_spaces": False,
            "add_bos_token": tokens.add_bos,
            "add_eos_token": tokens.add_eos,
            "bos_token": tokens.text(tokens.bos),
            "eos_token": tokens.text(tokens.eos),
            "unk_token": tokens.text(tokens.unknown),
            "pad_token": tokens.text(tokens.padding),
            "chat_template": self.chat_template or None,
        }
        return {key: value for key, value in described.items() if value is not None}


def describe(contents: Contents) -> Description:
    """The description of a model.

    Raises:
        ModelLoadError: it is of a kind that Hugging Face's library would not compute alike, or contradicts
            itself.
    """
    config, tokens = make_config(contents), read_tokens(contents)
    if len(tokens.texts) > config["vocab_size"]:
        raise contents.error(
            f"it has {len(tokens.texts)} tokens and embeddings of {config['vocab_size']}"
        )
    config |= {
        "bos_token_id": tokens.bos,
        "eos_token_id": tokens.eos,
        "pad_token_id": tokens.padding,
    }
    return Description(
        config=config,
        tokenizer=make_tokenizer(contents, tokens),
        tokens=tokens,
        chat_template=contents.long_text("tokenizer.chat_template"),
    )
