"""Putting an engine together from what a `LoadModel` command says."""

from __future__ import annotations

from dataclasses import dataclass

from inferflux_core.config.schema import RuntimeConfig
from inferflux_core.engine.calls import CallHandler
from inferflux_core.engine.engine import Engine
from inferflux_core.engine.kv.manager import KVCacheManager
from inferflux_core.engine.preparation import RequestFactory
from inferflux_core.engine.protocol import LoadModel, ModelInfo
from inferflux_core.engine.runner import ModelRunner, RunnerCapabilities
from inferflux_core.engine.scheduler import SchedulerLimits
from inferflux_core.errors import StartupError
from inferflux_core.plugins import PluginManager

__all__ = ["LoadedEngine", "assemble"]

_DEFAULT_PREFIX_CACHE_BYTES = 1024 * 1024 * 1024


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
    runner = _load(plugins, command)
    capabilities = runner.capabilities
    factory = RequestFactory(runner.tokenizer, capabilities, command.model.chat_template)
    engine = Engine(
        runner,
        scheduler_spec.factory(_limits(capabilities, command.runtime)),
        KVCacheManager(runner, _prefix_cache_bytes(command.runtime)),
    )
    return LoadedEngine(
        engine, factory, CallHandler(runner, factory), _describe(command, capabilities, factory)
    )


def _load(plugins: PluginManager, command: LoadModel) -> ModelRunner:
    backend = plugins.backend(command.backend)
    try:
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


def _prefix_cache_bytes(runtime: RuntimeConfig) -> int:
    configured = runtime.prefix_cache_bytes
    return _DEFAULT_PREFIX_CACHE_BYTES if configured is None else configured


def _describe(
    command: LoadModel, capabilities: RunnerCapabilities, factory: RequestFactory
) -> ModelInfo:
    return ModelInfo(
        name=command.model.name or "",
        backend=command.backend,
        device=capabilities.device,
        vocab_size=capabilities.vocab_size,
        max_model_len=capabilities.max_model_len,
        max_num_seqs=capabilities.max_num_seqs,
        has_chat_template=factory.has_chat_template,
        details=capabilities.details,
        hosts_adapters=capabilities.hosts_adapters,
        embeds=capabilities.embeds,
        ranks=capabilities.ranks,
        generates=capabilities.generates,
    )
