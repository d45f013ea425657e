"""Questions and answers: our own, and those of OpenAI's moderation API."""

from __future__ import annotations

from typing import Any, Final

from inferflux_core.guardrails import GuardrailContext
from inferflux_core.guardrails.reviewing import ReviewError, category, facts
from inferflux_core.guardrails.verdict_cache import Verdict
from inferflux_guardrail_webhook.config import WebhookConfig

__all__ = ["question", "verdict"]

_NAME: Final = "webhook"


def question(config: WebhookConfig, context: GuardrailContext, text: str) -> dict[str, str]:
    """The body of a request, without the request's id: the same question has the same body."""
    if config.format == "inferflux":
        return facts(context, text)
    return {"input": text, **({"model": config.model} if config.model else {})}


def verdict(config: WebhookConfig, answer: dict[str, Any]) -> Verdict:
    """Read an answer.

    Raises:
        ReviewError: it is none.
    """
    return _own(answer) if config.format == "inferflux" else _moderation(answer)


def _own(answer: dict[str, Any]) -> Verdict:
    rule = category(_NAME, answer.get("category"))
    match answer.get("action"):
        case "allow":
            return Verdict()
        case "flag":
            return Verdict(flagged=rule)
        case "block":
            return Verdict(blocked=rule)
    raise ReviewError("its `action` is none of allow, block and flag")


def _moderation(answer: dict[str, Any]) -> Verdict:
    results = answer.get("results")
    if not isinstance(results, list) or not results:
        raise ReviewError("it has no `results`")
    blocked = None
    for result in results:
        flagged = result.get("flagged") if isinstance(result, dict) else None
        if not isinstance(flagged, bool):
            raise ReviewError("`flagged` of a result is neither true nor false")
        if flagged and blocked is None:
            blocked = category(_NAME, _named(result.get("categories")))
    return Verdict(blocked=blocked)


def _named(categories: Any) -> str | None:
    if not isinstance(categories, dict):
        return None
    found = (name for name, value in categories.items() if value is True)
    first = min(found, default=None)
    return None if first is None else first.replace("/", ".")
