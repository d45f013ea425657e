"""inferctl: a command line client for InferFlux, or any server that speaks the OpenAI API."""

from __future__ import annotations

from importlib.metadata import version

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    if name == "__version__":
        return version("inferflux-cli")
    raise AttributeError(name)
