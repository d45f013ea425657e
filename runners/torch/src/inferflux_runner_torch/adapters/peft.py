"""Reading LoRA adapters as PEFT saves them: `adapter_config.json` and `adapter_model.safetensors`.

What an adapter changes and this version does not apply is refused: answers would be neither the model's nor
the adapter's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.folder.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from inferflux_core.models.folder.fields import Fields, read_fields
from inferflux_core.models.folder.safetensors_file import StoredTensor, read_header

__all__ = ["LoraFactors", "read_peft"]

_FACTOR: Final = re.compile(r"base_model\.model\.(?P<linear>.+)\.lora_(?P<half>[AB])\.weight")
_TYPES: Final = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_MAX_RANK: Final = 4096
_OTHER_MODEL: Final = "use an adapter that was made for this model"
_PLAIN: Final = "train it as a plain LoRA of linear layers"
_EXPECTED: Final[tuple[tuple[str, tuple[object, ...]], ...]] = (
    ("use_dora", (None, False)),
    ("fan_in_fan_out", (None, False)),
    ("bias", (None, "none")),
    ("lora_bias", (None, False)),
    ("modules_to_save", (None, [])),
    ("alpha_pattern", (None, {})),
    ("target_parameters", (None, [])),
    ("trainable_token_indices", (None, [], {})),
    ("alora_invocation_tokens", (None, [])),
    ("layer_replication", (None, [])),
    ("megatron_config", (None,)),
)
"""Settings that other values of would need more than two factors for each linear layer."""


@dataclass(frozen=True, slots=True)
class LoraFactors:
    """What is added to a linear layer: `x @ down.T @ up.T`; the adapter's own scale is in `up`.

    Attributes:
        down: `[rank, inputs]`.
        up: `[outputs, rank]`.
    """

    down: torch.Tensor
    up: torch.Tensor


def read_peft(
    folder: Path, linears: Mapping[str, tuple[int, int]], dtype: torch.dtype
) -> dict[str, LoraFactors]:
    """Read an adapter, for the linear layers that it changes; nobody may write to it meanwhile.

    Args:
        folder: as PEFT saves it.
        linears: inputs and outputs of the model's linear layers, by names such as
            `model.layers.0.self_attn.q_proj`.
        dtype: what to hold the factors in.

    Raises:
        ModelLoadError: it is damaged, of a kind that is not applied here, or made for another model.
    """
    config = read_fields(folder / ADAPTER_CONFIG, required=True)
    _check_kind(config)
    rank = config.integer("r", None, 1, _MAX_RANK)
    alpha = config.number("lora_alpha", 8.0)
    rooted = config.flag("use_rslora", default=False)
    ranks_differ = bool(config.object("rank_pattern").content)
    factors = {}
    for name, (down, up) in _pairs(folder / ADAPTER_WEIGHTS).items():
        found = _rank(name, down, up, linears)
        if found != rank and not ranks_differ:
            raise ModelLoadError(
                f"{ADAPTER_WEIGHTS}: the factors of {name} have the rank {found}, and {ADAPTER_CONFIG} "
                f"says {rank}",
                hint="see that both files are of the same adapter",
            )
        scale = alpha / (math.sqrt(found) if rooted else found)
        factors[name] = LoraFactors(
            _numbers(down).to(dtype).contiguous(), (_numbers(up) * scale).to(dtype).contiguous()
        )
    return factors


def _check_kind(config: Fields) -> None:
    kind = config.text("peft_type")
    if kind != "LORA":
        raise config.error(f"'peft_type' is {kind[:50]!r}, not 'LORA'", hint=_PLAIN)
    for key, expected in _EXPECTED:
        if config.get(key) not in expected:
            raise config.error(f"{key!r} is set, and is not applied here", hint=_PLAIN)


def _pairs(path: Path) -> dict[str, tuple[StoredTensor, StoredTensor]]:
    """Both factors of each linear layer, by its name."""
    if not path.is_file():
        raise ModelLoadError(
            f"the adapter has no {ADAPTER_WEIGHTS}",
            hint="save it as safetensors; pickles could run code when opened",
        )
    halves: dict[str, dict[str, StoredTensor]] = {}
    for tensor in read_header(path):
        match = _FACTOR.fullmatch(tensor.name)
        if match is None or tensor.dtype not in _TYPES:
            raise ModelLoadError(
                f"{ADAPTER_WEIGHTS}: tensor {tensor.name[:200]!r}, of the type {tensor.dtype}, is no "
                "factor of a LoRA",
                hint=_PLAIN,
            )
        halves.setdefault(match["linear"], {})[match["half"]] = tensor
    for name, found in halves.items():
        if len(found) != 2:
            raise ModelLoadError(
                f"{ADAPTER_WEIGHTS}: one of the two factors of {name[:200]!r} is missing",
                hint="see that the file is complete",
            )
    if not halves:
        raise ModelLoadError(f"{ADAPTER_WEIGHTS}: it changes no weights", hint=_PLAIN)
    return {name: (found["A"], found["B"]) for name, found in halves.items()}


def _rank(
    name: str, down: StoredTensor, up: StoredTensor, linears: Mapping[str, tuple[int, int]]
) -> int:
    """The rank of a change that fits the model."""
    if name not in linears:
        raise ModelLoadError(
            f"the model has no linear layer {name[:200]!r} that adapters can change",
            hint=_OTHER_MODEL,
        )
    inputs, outputs = linears[name]
    rank = down.shape[0] if down.shape else 0
    if not 1 <= rank <= _MAX_RANK or down.shape != (rank, inputs) or up.shape != (outputs, rank):
        raise ModelLoadError(
            f"the factors of {name} have the shapes {list(down.shape)} and {list(up.shape)}, and this "
            f"model needs [rank, {inputs}] and [{outputs}, rank]",
            hint=_OTHER_MODEL,
        )
    return rank


def _numbers(tensor: StoredTensor) -> torch.Tensor:
    """A factor in single precision; one infinite number would make every answer meaningless."""
    words: Any = tensor.words().copy()
    signed = torch.from_numpy(words.view(words.dtype.str.replace("u", "i")))
    numbers = signed.view(_TYPES[tensor.dtype]).float()
    if not bool(numbers.isfinite().all()):
        raise ModelLoadError(
            f"{ADAPTER_WEIGHTS}: tensor {tensor.name[:200]!r} holds numbers that are infinite or none",
            hint="its training went wrong, or the file is damaged",
        )
    return numbers
