"""What the file or folder of a model says, whether the model was ever loaded or not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from inferflux_api.models.served import ServedModel
from inferflux_core.errors import ModelLoadError
from inferflux_core.models import reference
from inferflux_core.models.folder.header import read_folder_header
from inferflux_core.models.gguf_header import GGUFHeader, read_gguf_header
from inferflux_core.models.stores import part_paths
from inferflux_core.tool_calls.formats import detect_format, detect_reasoning

__all__ = ["ModelFacts", "facts_of"]

# llama.cpp's `llama_ftype`, by the value of `general.file_type`.
_FILE_TYPES: Final = {
    **{0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K"},
    **{11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S"},
    **{17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS"},
    **{23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S"},
    **{29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0"},
    **{38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0"},
}
_SCALES: Final = ((1e9, "B", 1), (1e6, "M", 2), (1e3, "K", 1))
_INFILL_KEYS: Final = ("tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model from its file.

    Attributes:
        size: of all its files, in bytes.
        modified_at: seconds since 1970.
        digest: of what tells this version of the file from others, in hexadecimal; not of its bytes,
            which would take long to read.
        format: `gguf`, `safetensors`, or "" for a model that cannot be read.
        header: None for a model that cannot be read.
    """

    size: int
    modified_at: float
    digest: str
    format: str
    header: GGUFHeader | None

    @property
    def architecture(self) -> str:
        """Family of the model, "" if that is unknown."""
        return self._text("general.architecture")

    @property
    def quantization(self) -> str:
        """Of most weights, "" if that is unknown."""
        kind = self.header.metadata.get("general.file_type") if self.header else None
        return _FILE_TYPES.get(kind, "") if isinstance(kind, int) else ""

    @property
    def num_parameters(self) -> int:
        """Elements of all weights."""
        return self.header.num_parameters if self.header else 0

    @property
    def parameter_size(self) -> str:
        """The same for people, such as `7.6B`; "" if it is unknown."""
        for scale, unit, digits in _SCALES:
            if self.num_parameters >= scale:
                return f"{self.num_parameters / scale:.{digits}f}{unit}"
        return str(self.num_parameters or "")

    @property
    def context_length(self) -> int:
        """Tokens the model was trained for, 0 if that is unknown."""
        return self._number("context_length")

    @property
    def embedding_length(self) -> int:
        """Width of its states, 0 if that is unknown."""
        return self._number("embedding_length")

    @property
    def chat_template(self) -> str:
        """In Jinja, "" without one."""
        return self._text("tokenizer.chat_template")

    @property
    def only_embeds(self) -> bool:
        """Whether it was made to embed and not to write."""
        metadata = self.header.metadata if self.header else {}
        pools = bool(metadata.get(f"{self.architecture}.pooling_type"))
        return pools or metadata.get(f"{self.architecture}.attention.causal") is False

    @property
    def infills(self) -> bool:
        """Whether its vocabulary has tokens for text to be filled in."""
        return self.header is not None and any(key in self.header.metadata for key in _INFILL_KEYS)

    @property
    def calls_tools(self) -> bool:
        """Whether its template was made for tools."""
        return detect_format(self.chat_template or None).name != "generic"

    @property
    def reasons(self) -> bool:
        """Whether its template marks reasoning."""
        return detect_reasoning(self.chat_template or None) is not None

    def _text(self, key: str) -> str:
        value = self.header.metadata.get(key) if self.header else None
        return value if isinstance(value, str) else ""

    def _number(self, key: str) -> int:
        value = self.header.metadata.get(f"{self.architecture}.{key}") if self.header else None
        return value if isinstance(value, int) else 0


_NOTHING: Final = ModelFacts(0, 0.0, hashlib.sha256().hexdigest(), "", None)


def facts_of(model: ServedModel) -> ModelFacts:
    """Look at a model's file. Takes up to a second for a large vocabulary; then it is remembered."""
    try:
        path = reference.resolve(model.config.path or "")
        stats = [file.stat() for file in part_paths(path)]
    except (ModelLoadError, OSError):
        return _NOTHING
    if not stats:
        return _NOTHING
    size, modified_at = sum(stat.st_size for stat in stats), max(stat.st_mtime for stat in stats)
    return _read(path, size, modified_at)


@lru_cache(maxsize=256)
def _read(path: Path, size: int, modified_at: float) -> ModelFacts:
    digest = hashlib.sha256(f"{path}\0{size}\0{modified_at}".encode()).hexdigest()
    try:
        header = read_folder_header(path) if path.is_dir() else read_gguf_header(path)
    except (ModelLoadError, OSError):
        return ModelFacts(size, modified_at, digest, "", None)
    return ModelFacts(size, modified_at, digest, "safetensors" if path.is_dir() else "gguf", header)
