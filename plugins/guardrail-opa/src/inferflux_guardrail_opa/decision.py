"""The questions and answers of OPA's data API and of AuthZEN."""

from __future__ import annotations

from typing import Any, Final

from inferflux_core.guardrails import GuardrailContext
from inferflux_core.guardrails.reviewing import decision, facts
from inferflux_core.guardrails.verdict_cache import Verdict

__all__ = ["question", "verdict"]

_NAME: Final = "opa"


def question(api: str, context: GuardrailContext, text: str) -> dict[str, Any]:
    """The body of a request, without the request's id: the same question has the same body."""
    if api == "data":
        return {"input": facts(context, text)}
    return {
        "subject": {"type": "tenant", "id": context.tenant},
        "action": {"name": context.direction.value},
        "resource": {"type": "model", "id": context.model},
        "context": {"text": text},
    }


def verdict(api: str, answer: dict[str, Any]) -> Verdict:
    """Read an answer.

    OPA's `result` is a decision as `decision` reads it; AuthZEN's answer has `decision`, and perhaps
    `reason` in its `context`. What is not defined is not allowed.

    Raises:
        ReviewError: it is something else.
    """
    if api == "data":
        return decision(_NAME, answer.get("result", False))
    details = answer.get("context")
    reason = details.get("reason") if isinstance(details, dict) else None
    return decision(_NAME, {"allow": answer.get("decision", False), "reason": reason})
