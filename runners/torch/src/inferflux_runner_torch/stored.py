"""Models as they are stored: folders with safetensors, and GGUF files."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from inferflux_core.models.folder.fields import read_fields
from inferflux_core.models.folder.tokenizing import HfTokenizer, load_tokenizer
from inferflux_runner_torch.checkpoint import FolderCheckpoint
from inferflux_runner_torch.gguf import GGUFCheckpoint, GGUFModel

__all__ = ["FolderModel", "StoredCheckpoint", "open_model"]

StoredCheckpoint: TypeAlias = FolderCheckpoint | GGUFCheckpoint


class FolderModel:
    """A folder as Hugging Face lays it out.

    Args:
        path: of the folder.

    Attributes:
        config: its `config.json`.
        checkpoint: its weights.

    Raises:
        ModelLoadError: it is incomplete or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.config = read_fields(path / "config.json", required=True)
        self.checkpoint = FolderCheckpoint(path)

    def tokenizer(self, vocab_size: int) -> HfTokenizer:
        """Its tokenizer.

        Args:
            vocab_size: columns of the model's logits.

        Raises:
            ModelLoadError: it is missing or damaged, or does not fit the model.
        """
        return load_tokenizer(self._path, vocab_size)


def open_model(path: Path) -> FolderModel | GGUFModel:
    """Open a folder, or a GGUF file.

    Raises:
        ModelLoadError: it is incomplete or damaged, or none of them.
    """
    return FolderModel(path) if path.is_dir() else GGUFModel(path)
