"""The adapters that are loaded beside a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from inferflux_core.engine.runner import AdapterSet
from inferflux_core.errors import InvalidRequestError, ModelLoadError
from inferflux_runner_torch.adapters.peft import LoraFactors, read_peft
from inferflux_runner_torch.adapters.plan import LoraPlan, plan_rows

__all__ = ["Adapters"]


class Adapters:
    """The adapters of one model, by handle. Used from the thread that executes it.

    Args:
        linears: inputs and outputs of the model's linear layers, by their names in its checkpoint.
        dtype: of the model's states.
        device: where it is.
    """

    def __init__(
        self, linears: Mapping[str, tuple[int, int]], dtype: torch.dtype, device: torch.device
    ) -> None:
        self._linears = linears
        self._dtype = dtype
        self._device = device
        self._loaded: dict[int, dict[str, LoraFactors]] = {}
        self._last_handle = 0

    def load(self, path: Path) -> int:
        """Load an adapter; returns its handle, which is never given out twice.

        Raises:
            InvalidRequestError: it is damaged, or was made for another model.
        """
        if not path.is_dir():
            raise InvalidRequestError(
                f"{path.name} is a file; the torch runner takes adapters as PEFT saves them: folders with "
                "adapter_config.json and adapter_model.safetensors. For a GGUF adapter of a GGUF model set "
                "`runtime.runner` to llamacpp",
                param="lora_path",
            )
        try:
            factors = read_peft(path, self._linears, self._dtype)
        except ModelLoadError as error:
            hint = f"; {error.hint}" if error.hint else ""
            raise InvalidRequestError(error.message + hint, param="lora_path") from error
        self._last_handle += 1
        self._loaded[self._last_handle] = {
            name: LoraFactors(pair.down.to(self._device), pair.up.to(self._device))
            for name, pair in factors.items()
        }
        return self._last_handle

    def free(self, handle: int) -> None:
        """Free an adapter that no sequence uses any more."""
        del self._loaded[handle]

    def plan(self, work: Sequence[tuple[AdapterSet, int]]) -> LoraPlan | None:
        """What to apply to a batch.

        Args:
            work: adapters and number of rows of each sequence, in the order of the batch.

        Returns:
            None if no row has an adapter.
        """
        return plan_rows(self._loaded, work, self._device)
