"""Putting an engine together from what a `LoadModel` command says."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.adapters import AdapterRegistry
from inferflux_core.engine.calls import CallHandler
from inferflux_core.engine.engine import Engine
from inferflux_core.engine.host_memory import available_memory
from inferflux_core.engine.kv.disk_tier import DiskTier
from inferflux_core.engine.kv.manager import KVCacheManager
from inferflux_core.engine.preparation import RequestFactory
from inferflux_core.engine.protocol import LoadModel, ModelInfo
from inferflux_core.engine.runner import ModelRunner, RunnerCapabilities
from inferflux_core.engine.scheduler import SchedulerLimits
from inferflux_core.engine.speculation.draft_model import DraftModelDrafter, vocabulary_difference
from inferflux_core.engine.speculation.drafter import Drafter
from inferflux_core.engine.speculation.ngram import NgramDrafter
from inferflux_core.engine.speculation.speculator import Speculator
from inferflux_core.errors import StartupError
from inferflux_core.model_signing import adapter_check
from inferflux_core.models import reference
from inferflux_core.plugins import PluginManager

__all__ = ["LoadedEngine", "assemble"]

logger = logging.getLogger("inferflux.speculation")

_DRAFT_SEQUENCES = 4
"""Beyond so many at once a small machine verifies drafts no sooner than it computes."""

_SURE_LENGTHS: Final = (8, 5)
"""Repetitions that are surer than a draft model."""

_MOST_PREFIX_CACHE_BYTES = 4 * 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """A loaded model and everything that serves it."""

    engine: Engine
    factory: RequestFactory
    calls: CallHandler
    info: ModelInfo


def assemble(command: LoadModel) -> LoadedEngine:
    """Load a model, run its kernels once, and build an engine around it.

    Raises:
        StartupError: the model cannot be served here.
    """
    plugins = PluginManager(strict=False, trace=command.plugins.trace)
    scheduler_spec = plugins.scheduler(command.runtime.scheduler)
    scheduler_options = plugins.options(scheduler_spec, command.runtime.scheduler_options)
    check_adapter = adapter_check(command.signing)
    runner = _load(plugins, command)
    capabilities = runner.capabilities
    adapters = AdapterRegistry(runner, check_adapter)
    factory = RequestFactory(runner.tokenizer, capabilities, command.model.chat_template, adapters)
    engine = Engine(
        runner,
        scheduler_spec.factory(_limits(capabilities, command.runtime), scheduler_options),
        _kv_cache(runner, command.runtime),
        _speculator(plugins, command, runner),
        on_finish=lambda request: adapters.release(request.adapters),
    )
    calls = CallHandler(runner, factory, adapters)
    return LoadedEngine(engine, factory, calls, _describe(command, capabilities, factory))


def _load(plugins: PluginManager, command: LoadModel) -> ModelRunner:
    backend = plugins.backend(command.backend)
    try:
        if command.retune and backend.forget is not None:
            backend.forget(command.model)
        runner = backend.factory(command.model, command.runtime)
        runner.warm_up()
    except StartupError:
        raise
    except Exception as error:
        raise StartupError(
            f"backend '{command.backend}' failed to load the model: {type(error).__name__}: {error}"
        ) from error
    return runner


def _limits(capabilities: RunnerCapabilities, runtime: RuntimeConfig) -> SchedulerLimits:
    quantum, patience = capabilities.prefill_quantum, runtime.max_inter_token_ms
    return SchedulerLimits(
        max_num_seqs=capabilities.max_num_seqs,
        max_num_batched_tokens=max(
            runtime.max_num_batched_tokens, capabilities.max_num_seqs + quantum
        ),
        prefill_quantum=quantum,
        cost=capabilities.cost,
        max_inter_token_seconds=None if patience is None else patience / 1000,
    )


def _kv_cache(runner: ModelRunner, runtime: RuntimeConfig) -> KVCacheManager:
    """What has been computed is kept in main memory, and on disk where the configuration names a folder.

    Raises:
        StartupError: the folder cannot be used, or this model's keys and values cannot be taken out.
    """
    capacity = runtime.prefix_cache_bytes
    if capacity is None:
        capacity = min(available_memory() // 4, _MOST_PREFIX_CACHE_BYTES)
    folder, capabilities = runtime.nvme_offload.path, runner.capabilities
    if folder is None:
        return KVCacheManager(runner, capacity)
    if not (capabilities.exports_state and capabilities.state_fingerprint and capacity):
        raise StartupError(
            "keys and values of this model cannot be kept on disk"
            if capacity
            else "keys and values are kept on disk only if they are also kept in memory",
            hint="remove `runtime.nvme_offload.path`, or set `runtime.prefix_cache_bytes` above 0",
        )
    disk = DiskTier(
        Path(folder).expanduser(), capabilities.state_fingerprint, runtime.nvme_offload.max_bytes
    )
    return KVCacheManager(runner, capacity, disk)


def _speculator(
    plugins: PluginManager, command: LoadModel, runner: ModelRunner
) -> Speculator | None:
    """Drafts from the text so far, and from a draft model where there is one and it fits.

    All models of a server share the configuration, so what does not suit this one is logged, not refused.

    Raises:
        StartupError: the draft model can be used with no model.
    """
    settings, capabilities = command.runtime.speculative_decoding, runner.capabilities
    if not (settings.enabled and capabilities.generates):
        return None
    if not capabilities.max_draft_tokens:
        logger.warning(
            "%s is served without speculation: backend '%s' cannot verify drafts with this model",
            command.model.name,
            command.backend,
        )
        return None
    drafters: list[Drafter] = [NgramDrafter()]
    if settings.draft_model is not None:
        model = _load_draft_model(plugins, command, settings.draft_model, runner)
        if model is not None:
            drafters = [
                NgramDrafter(_SURE_LENGTHS),
                DraftModelDrafter(model, settings.max_prefill_tokens),
            ]
    return Speculator(drafters, capabilities, settings.max_draft_tokens)


def _load_draft_model(
    plugins: PluginManager, command: LoadModel, name: str, target: ModelRunner
) -> ModelRunner | None:
    """The draft model, or None if it has another vocabulary than the model.

    Raises:
        StartupError: it cannot be loaded, or its wrong guesses cannot be taken back.
    """
    path = str(reference.resolve(name))
    runtime = msgspec.structs.replace(
        command.runtime, max_num_seqs=_DRAFT_SEQUENCES, max_model_len=None
    )
    model = ModelConfig(path=path, name=name)
    runner = _load(plugins, msgspec.structs.replace(command, model=model, runtime=runtime))
    if not runner.capabilities.max_draft_tokens:
        runner.close()
        raise StartupError(
            f"backend '{command.backend}' cannot correct the drafts of {name}",
            hint="use another draft model",
        )
    difference = vocabulary_difference(target.tokenizer, runner.tokenizer)
    if difference is not None:
        logger.warning(
            "%s is served without the draft model %s, which has another vocabulary: %s",
            command.model.name,
            name,
            difference,
        )
        runner.close()
        return None
    return runner


def _describe(
    command: LoadModel, capabilities: RunnerCapabilities, factory: RequestFactory
) -> ModelInfo:
    reasoning = factory.reasoning
    return ModelInfo(
        name=command.model.name or "",
        backend=command.backend,
        device=capabilities.device,
        vocab_size=capabilities.vocab_size,
        max_model_len=capabilities.max_model_len,
        max_num_seqs=capabilities.max_num_seqs,
        details=capabilities.details,
        hosts_adapters=capabilities.hosts_adapters,
        embeds=capabilities.embeds,
        ranks=capabilities.ranks,
        generates=capabilities.generates,
        infills=factory.infill is not None,
        chat_template=factory.chat_template,
        tool_format=factory.tool_format.name,
        reasoning=(reasoning.opening, reasoning.closing) if reasoning else None,
    )
