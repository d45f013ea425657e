"""A response while it comes into being, and its shape on the wire."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Final

from inferflux_api.dialects.openai.responses.items import Item
from inferflux_api.generation import Usage
from inferflux_core.errors import InferFluxError

__all__ = ["Draft"]

_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


@dataclass(slots=True)
class Draft:
    """A response, as far as it has come.

    Attributes:
        id: of the response.
        created: seconds since 1970.
        model: as the client named it.
        echo: fields that repeat the request.
        usage: tokens so far.
        status: `queued`, `in_progress`, `completed`, `incomplete`, `failed` or `cancelled`.
        output: items that are complete, or as complete as they will get.
        error: why it failed.
        incomplete: why it is incomplete.
        ended: seconds since 1970, if it is completed.
    """

    id: str
    created: int
    model: str
    echo: dict[str, Any]
    usage: Usage
    status: str = "in_progress"
    output: list[Item] = field(default_factory=list)
    error: dict[str, Any] | None = None
    incomplete: dict[str, str] | None = None
    ended: int | None = None

    def end(self, finish_reason: str) -> None:
        """The answer is all there."""
        reason = _INCOMPLETE.get(finish_reason)
        if reason is not None:
            self.status = "incomplete"
            self.incomplete = {"reason": reason}
        else:
            self.status = "completed"
            self.ended = int(time.time())

    def fail(self, error: InferFluxError) -> None:
        """There will be no more of it."""
        self.status = "failed"
        # Clients know no more codes than these.
        code = "rate_limit_exceeded" if error.status == 429 else "server_error"
        if error.status in (400, 404, 413):
            code = "invalid_prompt"
        self.error = {"code": code, "message": error.message}

    def body(self) -> dict[str, Any]:
        """The response as clients see it now."""
        running = self.status in ("queued", "in_progress")
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": self.status,
            "completed_at": self.ended,
            "error": self.error,
            "incomplete_details": self.incomplete,
            "model": self.model,
            "output": self.output,
            **self.echo,
            "usage": None if running else _usage(self.usage),
        }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
