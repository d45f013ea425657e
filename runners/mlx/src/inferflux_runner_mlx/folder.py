"""What a model folder says, and whether MLX can run it here; before any of its weights are read."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import mlx_lm.models
import mlx_lm.utils

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.folder.checkpoint import read_checkpoint
from inferflux_core.models.folder.fields import Fields, read_fields

__all__ = ["ModelFolder", "read_folder"]

_CONFIG: Final = "config.json"
_LENGTHS: Final = ("max_position_embeddings", "n_positions", "max_seq_len", "model_max_length")
_LAYERS: Final = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")
_MODEL_CLASS: Final = "class ModelArgs"
_MOST: Final = 1 << 31


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder whose files are complete and consistent.

    Attributes:
        path: of the folder.
        model_type: the family, such as `llama`.
        weight_files: in the order of their names.
        weight_bytes: of all tensors.
        trained_len: tokens that the model was trained for; None if the folder does not say.
        quantization: in words, e.g. `4-bit`; the type of most weights if there is none.
    """

    path: Path
    model_type: str
    weight_files: tuple[Path, ...]
    weight_bytes: int
    trained_len: int | None
    quantization: str


def read_folder(path: Path) -> ModelFolder:
    """Read a folder's configuration and the headers of its weights.

    Raises:
        ModelLoadError: something is missing, damaged or contradictory, or the family is not known.
    """
    if not path.is_dir():
        raise ModelLoadError(
            f"{path.name} is no model folder", hint="MLX runs folders with safetensors"
        )
    config = read_fields(path / _CONFIG, required=True)
    model_type = config.text("model_type")
    _check_family(config, model_type)
    tensors = read_checkpoint(path)
    _check_layers(config, len(tensors))
    return ModelFolder(
        path=path,
        model_type=model_type,
        weight_files=tuple(sorted({tensor.path for tensor in tensors.values()})),
        weight_bytes=sum(tensor.size for tensor in tensors.values()),
        trained_len=_first_integer(config, _LENGTHS),
        quantization=_quantization(config, {tensor.dtype for tensor in tensors.values()}),
    )


def _check_family(config: Fields, model_type: str) -> None:
    if config.get("model_file") is not None:
        raise config.error(
            "the model brings code of its own, which is never run",
            hint="use a model of a family that mlx-lm has",
        )
    names = {module.name for module in pkgutil.iter_modules(mlx_lm.models.__path__)}
    if model_type in mlx_lm.utils.MODEL_REMAPPING or (
        model_type in names and _is_family(model_type)
    ):
        return
    known = sorted(filter(_is_family, names) | mlx_lm.utils.MODEL_REMAPPING.keys())
    raise config.error(
        f"mlx-lm has no family {model_type[:100]!r}", hint="it has " + ", ".join(known)
    )


def _is_family(name: str) -> bool:
    """Whether a module is a model, and not a part of some."""
    (folder,) = mlx_lm.models.__path__
    return _MODEL_CLASS in Path(folder, f"{name}.py").read_text("utf-8")


def _check_layers(config: Fields, tensors: int) -> None:
    """A model is built before its weights are missed: not with millions of layers."""
    layers = _first_integer(config, _LAYERS)
    if layers is not None and layers > tensors:
        raise config.error(f"it describes {layers} layers, and the folder has {tensors} tensors")


def _first_integer(config: Fields, keys: tuple[str, ...]) -> int | None:
    """The first of some keys that is there; models for more than text describe it in a part."""
    for part in (config, config.object("text_config")):
        for key in keys:
            if part.get(key) is not None:
                return part.integer(key, None, 1, _MOST)
    return None


def _quantization(config: Fields, dtypes: set[str]) -> str:
    for key in ("quantization", "quantization_config"):
        if config.get(key) is not None:
            part = config.object(key)
            if part.get("bits") is not None:
                return f"{part.integer('bits', None, 1, 16)}-bit"
            return part.text("quant_method")
    return ", ".join(sorted(dtypes))
