"""The questions and answers of OPA's data API and of AuthZEN."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from inferflux_core.guardrails import GuardrailContext

__all__ = ["DENIED", "AnswerError", "question", "verdict"]

DENIED: Final = "opa"
_CATEGORY: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class AnswerError(Exception):
    """The answer is not one that the API knows."""


def question(api: str, context: GuardrailContext, text: str) -> dict[str, Any]:
    """The body of a request, without the request's id: the same question has the same body."""
    if api == "data":
        facts = {"direction": context.direction.value, "tenant": context.tenant}
        return {"input": {**facts, "model": context.model, "text": text}}
    return {
        "subject": {"type": "tenant", "id": context.tenant},
        "action": {"name": context.direction.value},
        "resource": {"type": "model", "id": context.model},
        "context": {"text": text},
    }


def verdict(api: str, body: bytes) -> str | None:
    """Read an answer.

    OPA's `result` is true or false, or an object with `allow` and perhaps `reason`; AuthZEN's answer has
    `decision`, and perhaps `reason` in its `context`. What is not defined is not allowed.

    Returns:
        None if the text may pass, else the category of the refusal: `opa`, followed by the reason if that
        is a short word. Anything longer might repeat what was found.

    Raises:
        AnswerError: it is something else.
    """
    try:
        answer = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise AnswerError("it is not a JSON object") from None
    if api == "data":
        result = answer.get("result", False)
        allowed = result.get("allow", False) if isinstance(result, dict) else result
        details = result
    else:
        allowed, details = answer.get("decision", False), answer.get("context")
    if allowed is True:
        return None
    if allowed is not False:
        raise AnswerError("its decision is neither true nor false")
    reason = details.get("reason") if isinstance(details, dict) else None
    if isinstance(reason, str) and _CATEGORY.fullmatch(reason):
        return f"{DENIED}.{reason}"
    return DENIED
