"""What may be chosen for a model on a machine, as far as the configuration leaves it open."""

from __future__ import annotations

from inferflux_core.config.schema import RuntimeConfig
from inferflux_core.errors import ModelLoadError
from inferflux_gguf.check import GGUFSummary
from inferflux_runner_llamacpp.host import cpu_flags
from inferflux_runner_llamacpp.tuning import Options
from inferflux_runner_llamacpp.weights import CANDIDATES, can_expand

__all__ = ["options_for"]


def options_for(
    summary: GGUFSummary, runtime: RuntimeConfig, threads: int, *, on_cpu: bool
) -> Options:
    """The candidates of every choice, defaults first.

    On devices only defaults: what is measured here concerns processors.

    Args:
        summary: the model.
        runtime: what it sets is the only candidate.
        threads: all there may be.
        on_cpu: whether the processor executes the model.

    Raises:
        ModelLoadError: the configuration contradicts itself.
    """
    if runtime.kv_cache_type == "q8_0" and runtime.flash_attention == "off":
        raise ModelLoadError(
            "runtime.kv_cache_type q8_0 needs flash attention",
            hint="set `runtime.flash_attention` to on, or another type",
        )
    weights = ("original", *(CANDIDATES if on_cpu and can_expand(summary) else ()))
    kv_types = _kv_types() if on_cpu else ("f16",)
    if runtime.flash_attention == "off":
        kv_types = tuple(kind for kind in kv_types if kind != "q8_0")
    flash = (True, False) if on_cpu else (True,)
    unified = (False, True) if on_cpu and runtime.max_num_seqs != 1 else (False,)
    return {
        "weights": weights if runtime.weights == "auto" else (runtime.weights,),
        "threads": (threads,) if runtime.threads or not on_cpu else _thread_counts(threads),
        "kv_type": kv_types if runtime.kv_cache_type == "auto" else (runtime.kv_cache_type,),
        "flash_attention": (
            flash if runtime.flash_attention == "auto" else (runtime.flash_attention == "on",)
        ),
        "unified": unified if runtime.kv_layout == "auto" else (runtime.kv_layout == "unified",),
    }


def _kv_types() -> tuple[str, ...]:
    """Half precision of the kind that the processor multiplies comes first."""
    if "avx512_bf16" in cpu_flags():
        return "bf16", "f16", "q8_0"
    return "f16", "bf16", "q8_0"


def _thread_counts(cores: int) -> tuple[int, ...]:
    """All cores, three quarters, half: where threads share a core or memory is slow, fewer may do more."""
    return tuple(dict.fromkeys((cores, max(cores * 3 // 4, 1), max(cores // 2, 1))))
