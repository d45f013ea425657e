"""The library that this package needs, and that only those install who want signatures."""

from __future__ import annotations

import importlib

from inferflux_core.errors import ConfigError

__all__ = ["require_cryptography"]


def require_cryptography() -> None:
    """See that `inferflux_core.model_signing.keys` can be imported.

    Raises:
        ConfigError: it cannot, as `cryptography` is missing.
    """
    try:
        importlib.import_module("inferflux_core.model_signing.keys")
    except ImportError as error:
        raise ConfigError(
            f"model signatures need `cryptography`, which cannot be imported: {error}",
            hint="pip install 'inferflux-core[signing]'",
        ) from error
