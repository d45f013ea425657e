"""The conversion as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from gguf.constants import (
    MODEL_ARCH,
    MODEL_ARCH_NAMES,
    GGMLQuantizationType,
    LlamaFileType,
)
from gguf.gguf_writer import GGUFWriter
from gguf.tensor_mapping import get_tensor_name_map

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.folder.chat_template import read_chat_template
from inferflux_core.models.folder.checkpoint import read_checkpoint
from inferflux_core.models.folder.fields import Fields, read_fields
from inferflux_gguf.to_gguf.dimensions import Dimensions, read_dimensions
from inferflux_gguf.to_gguf.families import Family, family_of, weights_of
from inferflux_gguf.to_gguf.rope import Rope, read_rope
from inferflux_gguf.to_gguf.special_tokens import SpecialTokens, read_special_tokens
from inferflux_gguf.to_gguf.transfer import Transfer, plan_transfers
from inferflux_gguf.to_gguf.vocabulary import Vocabulary, read_vocabulary
from inferflux_gguf.to_gguf.windows import describe_windows, usable_context

__all__ = ["convert"]

_FILE_TYPES: Final = {
    GGMLQuantizationType.F32: LlamaFileType.ALL_F32,
    GGMLQuantizationType.F16: LlamaFileType.MOSTLY_F16,
    GGMLQuantizationType.BF16: LlamaFileType.MOSTLY_BF16,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """Everything that a folder says, checked; weights still lie in their files."""

    config: Fields
    family: Family
    dims: Dimensions
    rope: Rope
    transfers: list[Transfer]
    vocabulary: Vocabulary
    special: SpecialTokens
    chat_template: str


def convert(source: Path, target: Path, report: Callable[[float], None]) -> None:
    """Write the model of a folder to one GGUF file, its weights as precise as they are.

    Args:
        source: `config.json`, `tokenizer.json`, what else describes the tokenizer, and safetensors.
        target: is overwritten, and useless if this fails.
        report: is called with the share that is done, from 0 to 1.

    Raises:
        ModelLoadError: it is incomplete, damaged, or of a kind that llama.cpp would not compute alike.
    """
    if not source.is_dir():
        raise ModelLoadError(f"{source} is no folder", hint="name the folder with config.json")
    model = _read(source)
    writer = GGUFWriter(None, MODEL_ARCH_NAMES[model.family.arch])
    try:
        _describe(model, writer)
        _write(model, writer, target, report)
    except OSError as error:
        raise ModelLoadError(
            f"the model cannot be written: {error}", hint="see that the disk has room for it"
        ) from error
    finally:
        writer.close()


def _read(folder: Path) -> _Model:
    config = read_fields(folder / "config.json", required=True)
    family = family_of(config)
    dims = read_dimensions(config)
    # The weights come first: then a size that config.json makes up cannot cost any memory.
    transfers = plan_transfers(
        weights_of(family, dims, config),
        read_checkpoint(folder),
        get_tensor_name_map(family.arch, dims.layers),
    )
    tokenizer = read_fields(folder / "tokenizer.json", required=True)
    vocabulary = read_vocabulary(tokenizer, dims.vocab)
    return _Model(
        config=config,
        family=family,
        dims=dims,
        rope=read_rope(config, family, dims),
        transfers=transfers,
        vocabulary=vocabulary,
        special=read_special_tokens(folder, config, tokenizer, vocabulary),
        chat_template=read_chat_template(folder),
    )


def _describe(model: _Model, writer: GGUFWriter) -> None:
    dims = model.dims
    writer.add_type("model")
    writer.add_block_count(dims.layers)
    context = usable_context(model.config, model.family, dims)
    writer.add_context_length(model.rope.usable_context(context))
    writer.add_embedding_length(dims.width)
    writer.add_feed_forward_length(dims.inner)
    writer.add_head_count(dims.heads)
    writer.add_head_count_kv(dims.heads_kv)
    writer.add_key_length(dims.head)
    writer.add_value_length(dims.head)
    writer.add_layer_norm_rms_eps(dims.epsilon)
    writer.add_vocab_size(dims.vocab)
    model.rope.describe(writer, dims)
    if model.family.arch is MODEL_ARCH.GEMMA3:
        describe_windows(model.config, dims, writer)
    sizes: Counter[GGMLQuantizationType] = Counter()
    for transfer in model.transfers:
        sizes[transfer.type] += transfer.stored.size
    writer.add_file_type(_FILE_TYPES[sizes.most_common(1)[0][0]])
    model.vocabulary.describe(writer)
    model.special.describe(writer)
    writer.add_chat_template(model.chat_template)


def _write(
    model: _Model, writer: GGUFWriter, target: Path, report: Callable[[float], None]
) -> None:
    """Metadata first, then one tensor after the other: memory holds one of them at a time."""
    for name, divisors in model.rope.divisors.items():
        _announce(writer, name, divisors.shape, GGMLQuantizationType.F32)
    for transfer in model.transfers:
        _announce(writer, transfer.name, transfer.weight.shape, transfer.type)
    writer.write_header_to_file(target)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for divisors in model.rope.divisors.values():
        writer.write_tensor_data(divisors)
    done, whole = 0, sum(transfer.stored.size for transfer in model.transfers)
    for transfer in model.transfers:
        writer.write_tensor_data(transfer.words())
        done += transfer.stored.size
        report(done / whole)


def _announce(
    writer: GGUFWriter, name: str, shape: tuple[int, ...], kind: GGMLQuantizationType
) -> None:
    dtype: npt.DTypeLike = np.uint32 if kind is GGMLQuantizationType.F32 else np.uint16
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    writer.add_tensor_info(name, shape, np.dtype(dtype), size, raw_dtype=kind)
