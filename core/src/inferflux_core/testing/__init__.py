"""The conformance kit: inherit a contract, name your plugin, and run pytest.

The contracts need `pip install "inferflux-core[testing]"`; the fakes do not.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from inferflux_core.testing.deterministic import DeterministicRunner
from inferflux_core.testing.requests import make_request

if TYPE_CHECKING:
    from inferflux_core.testing.auth import AuthContract
    from inferflux_core.testing.backend import BackendContract
    from inferflux_core.testing.guardrail import GuardrailContract
    from inferflux_core.testing.scheduler import SchedulerContract

__all__ = [
    "AuthContract",
    "BackendContract",
    "DeterministicRunner",
    "GuardrailContract",
    "SchedulerContract",
    "make_request",
]

_CONTRACTS: Final = {
    "AuthContract": "auth",
    "BackendContract": "backend",
    "GuardrailContract": "guardrail",
    "SchedulerContract": "scheduler",
}
_WITH_ASSERTS: Final = (
    *_CONTRACTS.values(),
    "checked_scheduler",
    "contract",
    "driving",
    "runner_tests",
    "tokenizer_tests",
)


def __getattr__(name: str) -> Any:
    """Load a contract when it is asked for, so that the fakes can be had without pytest."""
    if name not in _CONTRACTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pytest

    # Only what pytest rewrites says what the two sides of a failed assert were.
    modules = {f"{__name__}.{module}" for module in _WITH_ASSERTS}
    pytest.register_assert_rewrite(*sorted(modules - set(sys.modules)))
    return getattr(import_module(f"{__name__}.{_CONTRACTS[name]}"), name)
