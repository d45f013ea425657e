"""What an operator can set under `guardrails.options.webhook`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from inferflux_core.guardrails.reviewing import ReviewerConfig

__all__ = ["WebhookConfig"]

HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
HeaderValue = Annotated[str, Meta(pattern=r"^[!-~]([ -~]*[!-~])?$")]


class WebhookConfig(ReviewerConfig, frozen=True, kw_only=True):
    """Whom to ask, how, and about what.

    Attributes:
        endpoint: URL to post to.
        format: of question and answer: our own, or that of OpenAI's moderation API.
        api_key: sent as bearer token; better `${env:NAME}` than the key itself.
        model: for a moderation API.
        secret: signs each question (HMAC-SHA256 of the body) in the header `x-inferflux-signature`.
        headers: further headers.
        allow_http: whether texts may travel unencrypted to another machine.
        timeout: seconds for one question.
    """

    endpoint: str
    format: Literal["inferflux", "openai-moderation"] = "inferflux"
    api_key: HeaderValue | None = None
    model: str | None = None
    secret: Annotated[str, Meta(min_length=16)] | None = None
    headers: dict[HeaderName, HeaderValue] = msgspec.field(default_factory=dict)
    allow_http: bool = False
    timeout: Annotated[float, Meta(gt=0, le=25)] = 1.0

    def __repr__(self) -> str:
        """Leave keys, headers and the secret out: a representation ends up in logs."""
        return f"WebhookConfig(endpoint={self.endpoint!r}, format={self.format!r})"
