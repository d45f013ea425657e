"""A GGUF file, described as a folder would describe it."""

from __future__ import annotations

import json
from pathlib import Path

from gguf.constants import TokenType

from inferflux_core.models.folder.fields import Fields
from inferflux_core.models.folder.tokenizing import HfTokenizer
from inferflux_core.models.folder.tokenizing.special_tokens import SpecialNames
from inferflux_gguf.contents import open_gguf
from inferflux_gguf.to_folder.description import describe
from inferflux_gguf.to_folder.weights import find_weights
from inferflux_runner_torch.gguf.checkpoint import GGUFCheckpoint

__all__ = ["GGUFModel"]


class GGUFModel:
    """What the runner needs to know of a GGUF file.

    Args:
        path: a GGUF file, or the first part of a split one.

    Attributes:
        config: what its `config.json` would say.
        checkpoint: its weights.

    Raises:
        ModelLoadError: it is damaged, or of a kind that no folder could describe.
    """

    def __init__(self, path: Path) -> None:
        contents = open_gguf(path)
        self._description = describe(contents)
        self.config = Fields(path.name, self._description.config)
        self.checkpoint = GGUFCheckpoint(find_weights(contents, self._description.config))

    def tokenizer(self, vocab_size: int) -> HfTokenizer:
        """Its tokenizer.

        Args:
            vocab_size: columns of the model's logits.

        Raises:
            ModelLoadError: it does not fit the model.
        """
        tokens = self._description.tokens
        control = (TokenType.CONTROL, TokenType.UNKNOWN)
        names = SpecialNames(
            bos=tokens.text(tokens.bos) or "",
            eos=tokens.text(tokens.eos) or "",
            control=frozenset(
                text
                for text, kind in zip(tokens.texts, tokens.types, strict=True)
                if kind in control
            ),
            end_ids=frozenset(tokens.ends),
            add_bos=tokens.add_bos,
            add_eos=tokens.add_eos,
        )
        definition = json.dumps(self._description.tokenizer, ensure_ascii=False).encode()
        return HfTokenizer(definition, names, self._description.chat_template or None, vocab_size)
