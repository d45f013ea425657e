"""Plugins: found by entry point, chosen by name, loaded only when chosen."""

from __future__ import annotations

from inferflux_core.plugins.kinds import AUTH, BACKEND, GUARDRAIL, KINDS, SCHEDULER, Kind
from inferflux_core.plugins.manager import PluginManager, PluginReport

__all__ = [
    "AUTH",
    "BACKEND",
    "GUARDRAIL",
    "KINDS",
    "SCHEDULER",
    "Kind",
    "PluginManager",
    "PluginReport",
]
