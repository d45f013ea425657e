"""Everything a server consists of, put together from its configuration."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypedDict

from inferflux_api.engines import EnginePool
from inferflux_api.files import FileStore
from inferflux_api.governance.audit import AuditLog
from inferflux_api.governance.authentication import ApiKeys, Authenticator
from inferflux_api.governance.guardrails import guardrail_pipeline
from inferflux_api.governance.limits import Limiter
from inferflux_api.governance.policy import Policy, apply_policy
from inferflux_api.governance.policy_store import PASSPHRASE, PolicyStore
from inferflux_api.library.downloads import Downloads
from inferflux_api.library.serving import Library
from inferflux_api.observability.metrics import Metrics
from inferflux_api.operations import Operations
from inferflux_api.pipeline import Pipeline
from inferflux_core.auth import AuthProvider
from inferflux_core.config import (
    API_KEYS,
    Config,
    auth_options,
    auth_provider_names,
)
from inferflux_core.engine.async_engine import EngineState
from inferflux_core.engine.protocol import EngineStats
from inferflux_core.errors import InferFluxError
from inferflux_core.plugins import PluginManager

__all__ = ["BodyLimits", "Server"]

logger = logging.getLogger("inferflux.server")


class BodyLimits(TypedDict):
    """Bounds of a request body."""

    max_bytes: int
    max_depth: int


class Server:
    """The parts of a running server.

    Attributes:
        on_stop: what else has to end before the models do.

    Args:
        config: the whole configuration.
        passphrase: opens `config.policy_store` if that is sealed.

    Raises:
        StartupError: a plugin, a file or a setting makes it impossible to serve.
    """

    def __init__(self, config: Config, passphrase: str | None = None) -> None:
        policy = _policy(config, passphrase)
        config = apply_policy(config, policy) if policy else config
        self.config = config
        self.draining = False
        self.on_stop: list[Callable[[], Awaitable[None]]] = []
        self.plugins = PluginManager(strict=config.plugins.strict, trace=config.plugins.trace)
        self.metrics = Metrics(self._loads)
        providers = _providers(config, policy, self.plugins)
        if not providers:
            logger.warning("nobody can be authenticated: set auth.api_keys, or another provider")
        self.authenticator = Authenticator(providers)
        generation = policy.generation if policy else 0
        self.audit = AuditLog(config.audit, self.metrics, lambda: generation)
        self.files = FileStore(config.files.path, config.files.max_bytes)
        self.engines = EnginePool(
            config, self.plugins, lambda *labels: self.metrics.restarts.labels(*labels).inc()
        )
        self.library = Library(config.library, self.engines)
        self.downloads = Downloads(self.library)
        self.pipeline = Pipeline(
            self.engines,
            guardrail_pipeline(config, self.plugins, self.metrics),
            Limiter(config.rate_limit),
            self.audit,
            self.metrics,
            share_prefixes=config.runtime.share_prefixes_between_tenants,
        )
        self.operations = Operations(self.pipeline)

    @property
    def ready(self) -> bool:
        """Whether every model that is to be in memory can be used, and the server goes on."""
        return self.engines.ready and not self.draining

    @property
    def body_limits(self) -> BodyLimits:
        """What `read_json` needs to know."""
        server = self.config.server
        return {"max_bytes": server.max_body_bytes, "max_depth": server.max_json_depth}

    async def start(self) -> None:
        """Start authentication, then load the models.

        Raises:
            StartupError: something is missing.
        """
        await self.authenticator.start()
        await self.pipeline.limiter.start()
        await self.engines.start()

    async def stop(self) -> None:
        """Finish what runs, then let everything go."""
        self.draining = True
        for end in self.on_stop:
            await end()
        await self.downloads.stop()
        await self.engines.stop(self.config.server.drain_timeout)
        await self.pipeline.guardrails.close()
        await self.pipeline.limiter.close()
        await self.authenticator.stop()
        self.audit.close()
        self.files.close()

    def count_error(self, error: InferFluxError) -> None:
        """Note an error that a client was told of."""
        self.metrics.errors.labels(error.code).inc()
        self.audit.note(error)

    def _loads(self) -> Iterator[tuple[str, str, bool, EngineStats]]:
        for model in self.engines:
            engine = model.engine
            yield model.name, model.backend, engine.state is EngineState.READY, engine.stats


def _policy(config: Config, passphrase: str | None) -> Policy | None:
    if config.policy_store is not None:
        return PolicyStore(Path(config.policy_store), passphrase).load()
    if passphrase:
        logger.warning("%s has no effect: policy_store is not set", PASSPHRASE)
    return None


def _providers(config: Config, policy: Policy | None, plugins: PluginManager) -> list[AuthProvider]:
    providers: list[AuthProvider] = []
    for name in auth_provider_names(config):
        if name == API_KEYS:
            providers.append(ApiKeys(config.auth.api_keys, policy, config.auth.roles))
            continue
        spec = plugins.auth_provider(name)
        providers.append(spec.factory(plugins.options(spec, auth_options(config, name))))
    return providers
