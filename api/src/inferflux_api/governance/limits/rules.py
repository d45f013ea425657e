"""Which limits apply to a request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from inferflux_core.auth import Principal
from inferflux_core.config.schema import LimitsConfig, RateLimitConfig

__all__ = ["Rule", "Rules"]

_SECONDS: Final[Mapping[str, float]] = {
    "concurrent_requests": 0,
    "requests_per_minute": 60,
    "tokens_per_minute": 60,
    "tokens_per_day": 86_400,
}
_MOST_CALLERS: Final = 4096


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit of one holder.

    Attributes:
        what: is limited, as the key in the configuration is called.
        limit: how much of it there may be.
        holder: whom it is for, as messages say it.
        counter: what is counted together with this name.
        seconds: in which so much may be used; 0 limits what is used at a time.
        in_tokens: whether tokens are counted, and not requests.
    """

    what: str
    limit: int
    holder: str
    counter: str
    seconds: float
    in_tokens: bool = False

    def __str__(self) -> str:
        return f"the limit of {self.limit} {self.what.replace('_', ' ')} of {self.holder}"


class Rules:
    """What a configuration says of each caller. The strictest limit decides: all have to be kept."""

    def __init__(self, config: RateLimitConfig) -> None:
        self._config = config
        # Asked for with every request; callers are few, and the answer never changes.
        self._of = lru_cache(_MOST_CALLERS)(self._find)

    def of(self, principal: Principal, model: str | None) -> tuple[Rule, ...]:
        """The limits of a caller who uses a model, or none in particular."""
        return self._of(principal.tenant, principal.provider, principal.subject, model)

    def _find(self, tenant: str, provider: str, key: str, model: str | None) -> tuple[Rule, ...]:
        config = self._config
        nothing = LimitsConfig()
        rules = [
            *_rules(
                f"tenant '{tenant}'",
                ("tenant", tenant),
                config.tenants.get(tenant, nothing),
                config,
            ),
            *_rules(
                f"key '{key}'",
                ("key", tenant, provider, key),
                config.keys.get(key, nothing),
                config.per_key,
            ),
        ]
        if model is not None:
            # Counted per tenant: one of them must not use up a model for all others.
            holder, names = f"model '{model}' for tenant '{tenant}'", ("model", tenant, model)
            rules += _rules(holder, names, config.models.get(model, nothing), nothing)
        return tuple(rules)


def _rules(
    holder: str, names: tuple[str, ...], own: LimitsConfig, default: LimitsConfig
) -> Iterator[Rule]:
    for what, seconds in _SECONDS.items():
        limit = getattr(own, what)
        if limit is None:
            limit = getattr(default, what)
        if limit is not None:
            counter = ":".join(
                (what, *(quote(name, safe="", errors="surrogatepass") for name in names))
            )
            yield Rule(what, limit, holder, counter, seconds, what.startswith("tokens"))
