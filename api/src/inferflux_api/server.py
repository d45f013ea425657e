"""Everything a server consists of, put together from its configuration."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import TypedDict

from inferflux_api.engines import EnginePool
from inferflux_api.files import FileStore
from inferflux_api.governance.audit import AuditLog
from inferflux_api.governance.authentication import Access, ApiKeys, Authenticator
from inferflux_api.governance.guardrails import GuardrailPipeline, GuardrailWorkshop
from inferflux_api.governance.limits import Limiter
from inferflux_api.governance.policy.document import Policy
from inferflux_api.governance.policy.effect import apply_policy
from inferflux_api.governance.policy.live import Install, LivePolicy
from inferflux_api.governance.policy.store import PolicyStore
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
        store: where the policy is kept.

    Raises:
        StartupError: a plugin, a file or a setting makes it impossible to serve.
    """

    def __init__(self, config: Config, store: PolicyStore | None = None) -> None:
        self.config = config
        self.draining = False
        self.on_stop: list[Callable[[], Awaitable[None]]] = []
        self.plugins = PluginManager(strict=config.plugins.strict, trace=config.plugins.trace)
        self.policy = LivePolicy(store, self._prepare)
        self.metrics = Metrics(self._loads)
        self.metrics.policy_generation.set_function(lambda: self.policy.generation)
        self.metrics.policy_age.set_function(lambda: self.policy.age)
        self._workshop = GuardrailWorkshop(self.plugins, self.metrics)
        providers = self._providers()
        self.authenticator = Authenticator(providers, Access(ApiKeys([])))
        self.audit = AuditLog(config.audit, self.metrics, lambda: self.policy.generation)
        self.files = FileStore(config.files.path, config.files.max_bytes)
        self.engines = EnginePool(
            config, self.plugins, lambda *labels: self.metrics.restarts.labels(*labels).inc()
        )
        self.library = Library(config.library, self.engines)
        self.downloads = Downloads(self.library)
        self.pipeline = Pipeline(
            self.engines,
            self.authenticator,
            GuardrailPipeline({}),
            Limiter(config.rate_limit),
            self.audit,
            self.metrics,
            share_prefixes=config.runtime.share_prefixes_between_tenants,
        )
        self.operations = Operations(self.pipeline)
        self.policy.load()
        if providers == [None] and not len(self.authenticator.access.keys):
            logger.warning("nobody can be authenticated: set auth.api_keys, or another provider")

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
        self.policy.start()
        await self.engines.start()

    async def stop(self) -> None:
        """Finish what runs, then let everything go."""
        self.draining = True
        for end in self.on_stop:
            await end()
        await self.downloads.stop()
        await self.engines.stop(self.config.server.drain_timeout)
        await self.policy.stop()
        await self._workshop.close()
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

    def _providers(self) -> list[AuthProvider | None]:
        """Who is asked about credentials; None stands for our own keys, which the policy may have."""
        names = auth_provider_names(self.config)
        providers: list[AuthProvider | None] = [] if API_KEYS in names else [None]
        for name in names:
            if name == API_KEYS:
                providers.append(None)
                continue
            spec = self.plugins.auth_provider(name)
            options = self.plugins.options(spec, auth_options(self.config, name))
            providers.append(spec.factory(options))
        return providers

    def _prepare(self, policy: Policy) -> Install:
        """Build what a policy asks for.

        Raises:
            StartupError: it cannot be had.
        """
        auth = self.config.auth
        named = API_KEYS in auth_provider_names(self.config)
        config = apply_policy(self.config, policy)
        access = Access(
            ApiKeys(auth.api_keys if named else [], policy),
            {**policy.roles, **auth.roles},
            policy.tenants,
        )
        guardrails = self._workshop.pipeline(config)

        def install() -> None:
            self.authenticator.access = access
            self.pipeline.guardrails = guardrails
            self.pipeline.limiter.set_limits(config.rate_limit)

        return install
