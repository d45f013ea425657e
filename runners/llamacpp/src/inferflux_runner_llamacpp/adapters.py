"""LoRA adapters beside a model, and those that are applied to it at the moment.

llama.cpp applies adapters to a whole context, never to a row, and plans its compute graph anew whenever
they change. So rows are computed in groups with the same adapters, and changes are left out where nothing
changes.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp

from inferflux_core.engine.runner import AdapterSet
from inferflux_core.errors import InvalidRequestError, ModelLoadError
from inferflux_runner_llamacpp.adapter_check import BaseModel, check_adapter
from inferflux_runner_llamacpp.native_log import captured_log, cause

__all__ = ["Adapters"]


class Adapters:
    """The adapters of one model and one context.

    Args:
        model: handle of the model.
        context: handle of its context.
        base: what the model consists of; asked once, for the first adapter.
    """

    def __init__(
        self,
        model: llama_cpp.llama_model_p,
        context: llama_cpp.llama_context_p,
        base: Callable[[], BaseModel],
    ) -> None:
        self._model = model
        self._context = context
        self._read_base = base
        self._base: BaseModel | None = None
        # Freed with the model by llama.cpp itself, if not before.
        self._loaded: dict[int, Any] = {}
        self._last_handle = 0
        self._applied: AdapterSet = ()

    def load(self, path: Path) -> int:
        """Check an adapter and load it beside the model.

        Raises:
            InvalidRequestError: it is damaged, or was made for another model.
        """
        if path.is_dir():
            raise InvalidRequestError(
                f"{path.name} is a folder, and llama.cpp takes adapters as GGUF files; make one with its "
                "`convert_lora_to_gguf.py`",
                param="lora_path",
            )
        try:
            self._base = self._base or self._read_base()
            check_adapter(path, self._base)
        except ModelLoadError as error:
            hint = f"; {error.hint}" if error.hint else ""
            raise InvalidRequestError(error.message + hint, param="lora_path") from error
        with captured_log() as log:
            adapter = llama_cpp.llama_adapter_lora_init(self._model, os.fsencode(path))
        if not adapter:
            raise InvalidRequestError(
                f"llama.cpp cannot load {path.name}: {cause(log)}", param="lora_path"
            )
        self._last_handle += 1
        self._loaded[self._last_handle] = adapter
        return self._last_handle

    def free(self, handle: int) -> None:
        """Free an adapter; nothing may need it any more."""
        if any(applied == handle for applied, _ in self._applied):
            self.apply(())
        llama_cpp.llama_adapter_lora_free(self._loaded.pop(handle))

    def apply(self, adapters: AdapterSet) -> None:
        """Apply these adapters, and no others, to what is computed from now on."""
        if adapters == self._applied:
            return
        count = len(adapters)
        pointer = llama_cpp.llama_adapter_lora_p_ctypes
        pointers = (pointer * count)(*(self._loaded[handle] for handle, _ in adapters))
        scales = (ctypes.c_float * count)(*(scale for _, scale in adapters))
        llama_cpp.llama_set_adapters_lora(self._context, pointers, count, scales)
        self._applied = adapters
