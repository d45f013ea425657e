"""Registers the `oidc` auth provider."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from inferflux_auth_oidc.config import OIDCConfig
from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import AuthProviderSpec

if TYPE_CHECKING:
    from inferflux_auth_oidc.provider import OIDCProvider


def _create(config: OIDCConfig) -> OIDCProvider:
    # The HTTP client and the cryptography load only where the provider is used.
    from inferflux_auth_oidc.provider import OIDCProvider

    return OIDCProvider(config)


@hookimpl
def inferflux_auth_providers() -> Iterable[AuthProviderSpec]:
    """Declare `oidc`."""
    yield AuthProviderSpec(
        name="oidc",
        summary="Accepts access tokens of an OpenID Connect issuer",
        config_type=OIDCConfig,
        factory=_create,
    )
