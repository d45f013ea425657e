"""What an operator can set under `guardrails.options.rego`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from inferflux_core.guardrails.reviewing import ReviewerConfig

__all__ = ["RegoConfig"]


class RegoConfig(ReviewerConfig, frozen=True, kw_only=True):
    """Which policies judge, and what.

    Attributes:
        policies: files of Rego.
        data: files of JSON, merged into the document `data`.
        query: path of the decision.
    """

    policies: Annotated[list[str], Meta(min_length=1)]
    data: list[str] = msgspec.field(default_factory=list)
    query: Annotated[str, Meta(pattern=r"^data(\.[A-Za-z_][A-Za-z0-9_]*)+$")] = (
        "data.inferflux.allow"
    )
