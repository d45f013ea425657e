"""The conformance kit: inherit a contract, name your plugin in one fixture, and run pytest."""

from __future__ import annotations

from inferflux_core.testing.deterministic import DeterministicRunner
from inferflux_core.testing.requests import make_request

__all__ = ["DeterministicRunner", "make_request"]
