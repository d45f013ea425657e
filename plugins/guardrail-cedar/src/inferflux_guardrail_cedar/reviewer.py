"""The guardrail: asks Cedar whether a tenant may do this, with this text, to this model."""

from __future__ import annotations

from typing import Any, Final

import cedarpy

from inferflux_core.guardrails import Blocked, Direction, GuardrailContext
from inferflux_core.guardrails.reviewing import ReviewError, category
from inferflux_guardrail_cedar.config import CedarConfig
from inferflux_guardrail_cedar.policies import Policies

__all__ = ["CedarReviewer"]

_NAME: Final = "cedar"


class CedarReviewer:
    """Evaluates policies in Cedar; see `inferflux_core.guardrails.Reviewer`.

    That takes 50 µs for a short text, always ends, and cannot be left to a thread, as the library lets no
    other run meanwhile. So it is done at once, and only the length of a text bounds it.

    Raises:
        ConfigError: the policies cannot be used.
    """

    def __init__(self, config: CedarConfig) -> None:
        self._policies = Policies.read(config)
        self._max_bytes = config.max_bytes
        self.directions = frozenset(Direction(check) for check in config.checks)
        self.piece = config.piece

    async def review(self, context: GuardrailContext, text: str) -> None:
        """Judge a text.

        Raises:
            Blocked: the policies do not allow it.
            ReviewError: there is no verdict.
        """
        size = len(text.encode("utf-8", "replace"))
        if size > self._max_bytes:
            raise ReviewError(f"a text of {size} bytes is longer than `max_bytes`")
        policies = self._policies
        result = cedarpy.is_authorized(
            _question(context, text), policies.policies, policies.entities, policies.schema
        )
        if result.decision is cedarpy.Decision.Deny:
            raise Blocked(category(_NAME, _reason(result)))
        if result.decision is not cedarpy.Decision.Allow:
            raise ReviewError("the question does not fit the schema")
        if result.diagnostics.errors:
            # Cedar leaves out a policy that fails, though it may be the one that forbids.
            raise ReviewError("a policy failed, and was left out of the decision")

    async def close(self) -> None:
        """There is nothing to let go of."""


def _question(context: GuardrailContext, text: str) -> dict[str, Any]:
    return {
        "principal": {"type": "Tenant", "id": context.tenant},
        "action": {"type": "Action", "id": context.direction.value},
        "resource": {"type": "Model", "id": context.model},
        "context": {"text": text, "length": len(text)},
    }


def _reason(result: cedarpy.AuthzResult) -> str | None:
    """The `@id` of a policy that forbids it; there is none if no policy permits it."""
    named = result.diagnostics.id_annotations_by_reason.values()
    return min(named, default=None)
