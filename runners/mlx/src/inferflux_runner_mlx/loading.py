"""From a model folder and a configuration to a runner."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import mlx.core as mx
import mlx_lm.utils
import numpy as np
from mlx_lm.models.cache import make_prompt_cache

from inferflux_core.config.schema import RuntimeConfig
from inferflux_core.engine.calibration import measure_cost
from inferflux_core.engine.context_size import ContextSize, fit
from inferflux_core.engine.host_memory import available_memory
from inferflux_core.engine.runner import RunnerCapabilities, Work
from inferflux_core.errors import ModelLoadError
from inferflux_core.models.content import content_digest
from inferflux_core.models.folder.tokenizing import load_tokenizer
from inferflux_runner_mlx.folder import ModelFolder
from inferflux_runner_mlx.runner import MlxRunner
from inferflux_runner_mlx.sequences import LoneSequences, Model, SlotSequences, windows_of

__all__ = ["load_runner"]

logger = logging.getLogger("inferflux.mlx")

MAX_DRAFT_TOKENS: Final = 8
PREFILL_QUANTUM: Final = 64

_PIECE_FORMAT: Final = 1
"""Of exported states; see `SlotSequences.export`."""
_PROBE: Final = (1, 2, 3, 4)
_TOLERANCE: Final = 0.05
"""Share of the range of logits by which two ways to compute them may differ."""
_SPARE_BYTES: Final = 512 * 2**20
_ALLOWED: Final[dict[str, tuple[object, ...]]] = {
    "weights": ("auto", "original"),
    "kv_cache_type": ("auto",),
    "flash_attention": ("auto", "on"),
    "kv_layout": ("auto",),
    "threads": (None,),
    "mps_layers": (None,),
}
"""What MLX can do of what llama.cpp has a choice of."""


def load_runner(
    folder: ModelFolder, runtime: RuntimeConfig, *, on_cpu: bool, details: Mapping[str, str]
) -> MlxRunner:
    """Load a model; for the arguments, see `inferflux_runner_mlx.load`.

    Raises:
        ModelLoadError: the folder is damaged, or too large for this machine, or the configuration asks for
            what MLX does not do.
    """
    _check_options(runtime)
    device = _choose_device(on_cpu=on_cpu)
    _check_memory(folder)
    model = _load(folder)
    probe = _Probe(model)
    size = fit(probe.kv_bytes_per_token, _trained_len(folder, runtime), runtime)
    sequences: SlotSequences | LoneSequences
    if probe.windows is not None:
        sequences = SlotSequences(
            model, probe.windows, slots=size.max_num_seqs, capacity=size.max_model_len
        )
    else:
        logger.info("%s: sequences are computed one by one", folder.path.name)
        sequences = LoneSequences(model)
    capabilities = _capabilities(folder, probe, size, device)
    return MlxRunner(
        sequences,
        replace(capabilities, details={**capabilities.details, **details}),
        load_tokenizer(folder.path, probe.vocab_size),
        # It takes seconds, and on the processor minutes.
        measure=None if on_cpu or probe.windows is None else measure_cost,
    )


class _Probe:
    """What a model shows of itself when it computes a few tokens.

    Attributes:
        vocab_size: columns of its logits.
        kv_bytes_per_token: bytes of keys and values that one token occupies.
        windows: see `windows_of`; None also where the model cannot do with our caches.
    """

    def __init__(self, model: Model) -> None:
        try:
            caches = make_prompt_cache(model)
            logits = model(mx.array([_PROBE]), caches)[0].astype(mx.float32)
            mx.eval(logits)
        except Exception as error:
            raise ModelLoadError(
                f"MLX cannot run the model: {error}", hint="the model's files are damaged"
            ) from error
        self.vocab_size = int(logits.shape[-1])
        self.kv_bytes_per_token = sum(map(_bytes_per_token, caches))
        windows = windows_of(caches)
        agrees = windows is not None and _agrees(model, windows, logits)
        self.windows = windows if agrees else None


def _bytes_per_token(cache: Any) -> int:
    """Of one layer's keys and values `[1, heads, tokens, size]`."""
    parts = [getattr(cache, name, None) for name in ("keys", "values")]
    return sum(
        part.shape[1] * part.shape[3] * part.dtype.size
        for part in parts
        if isinstance(part, mx.array) and part.ndim == 4
    )


def _agrees(model: Model, windows: Sequence[int | None], expected: mx.array) -> bool:
    """Whether a model computes the same with our caches as with mlx_lm's own.

    Models may do with a cache what only mlx_lm's have. Two sequences with an idle slot between them show it.
    """
    tokens = list(_PROBE)
    ours = SlotSequences(model, windows, slots=3, capacity=len(tokens))
    try:
        ours.compute([Work(0, 0, tokens[:2], 0)])
        ours.compute([Work(2, 0, tokens[:3], 0)])
        found = ours.compute([Work(0, 2, tokens[2:3], 1), Work(2, 3, tokens[3:], 1)])
    except Exception as error:
        logger.info("the model wants caches of mlx-lm's own: %s", error)
        return False
    assert found is not None
    reference = np.asarray(expected[2:])
    return bool(np.abs(np.asarray(found) - reference).max() <= _TOLERANCE * np.ptp(reference))


def _check_options(runtime: RuntimeConfig) -> None:
    for key, allowed in _ALLOWED.items():
        if getattr(runtime, key) not in allowed:
            raise ModelLoadError(
                f"runtime.{key} is {getattr(runtime, key)!r}, and MLX has no such choice",
                hint="remove the key, or use a GGUF file, which llama.cpp runs",
            )


def _choose_device(*, on_cpu: bool) -> str:
    """Where MLX computes from now on; returns it in words.

    Raises:
        ModelLoadError: there is no GPU, and nobody has asked for the processor.
    """
    # Buffers of past passes, all of different sizes, would else be kept until memory is full.
    mx.set_cache_limit(_SPARE_BYTES)
    if on_cpu:
        mx.set_default_device(mx.cpu)
        # Fused kernels would be compiled by a C++ compiler at run time.
        mx.disable_compile()
        return "CPU, with MLX: for trying things out"
    if not mx.metal.is_available():
        raise ModelLoadError(
            "MLX finds no Metal GPU here",
            hint="use a Mac with Apple silicon, or the backend `mlx-cpu` to try things out",
        )
    mx.set_default_device(mx.gpu)
    # Otherwise macOS may take the weights out of the GPU's reach between two requests.
    mlx_lm.utils.maybe_set_recommended_wired_limit()
    return f"{mx.device_info().get('device_name', 'Apple silicon')}, with MLX"


def _check_memory(folder: ModelFolder) -> None:
    free = available_memory()
    if folder.weight_bytes > free:
        raise ModelLoadError(
            f"{folder.path.name} has {folder.weight_bytes / 2**20:,.0f} MiB of weights and only "
            f"{free / 2**20:,.0f} MiB of memory are free",
            hint="use a smaller model or quantization, or free memory",
        )


def _load(folder: ModelFolder) -> Model:
    try:
        # Code that comes with a model is not run: that is the default, and `read_folder` refuses it.
        model, _ = mlx_lm.utils.load_model(folder.path, trust_remote_code=False)
    except Exception as error:
        raise ModelLoadError(
            f"{folder.path.name}: mlx-lm cannot load it: {str(error)[:500] or type(error).__name__}",
            hint="see that config.json and the weights belong to the same model",
        ) from error
    loaded: Model = model
    return loaded


def _trained_len(folder: ModelFolder, runtime: RuntimeConfig) -> int:
    length = folder.trained_len or runtime.max_model_len
    if length is None:
        raise ModelLoadError(
            f"{folder.path.name} does not say how long its sequences may be",
            hint="set `runtime.max_model_len`",
        )
    return length


def _capabilities(
    folder: ModelFolder, probe: _Probe, size: ContextSize, device: str
) -> RunnerCapabilities:
    in_slots = probe.windows is not None
    versions = {name: importlib.metadata.version(name) for name in ("mlx", "mlx-lm")}
    parts = (_PIECE_FORMAT, content_digest(folder.weight_files), versions, device)
    fingerprint = hashlib.sha256(repr(parts).encode()).hexdigest()
    return RunnerCapabilities(
        vocab_size=probe.vocab_size,
        max_num_seqs=size.max_num_seqs,
        max_model_len=size.max_model_len,
        prefill_quantum=PREFILL_QUANTUM,
        max_draft_tokens=MAX_DRAFT_TOKENS if in_slots else 0,
        uniform_rows=True,
        contiguous_slots=in_slots,
        exports_state=in_slots,
        state_fingerprint=fingerprint if in_slots else "",
        device=device,
        kv_bytes_per_token=probe.kv_bytes_per_token,
        details={
            "runner": "mlx",
            "architecture": folder.model_type,
            "quantization": folder.quantization,
            "kv_layout": "slots" if in_slots else "one by one",
            **{name.replace("-", "_"): version for name, version in versions.items()},
        },
    )
