"""What an operator can set under `guardrails.options.cedar`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from inferflux_core.guardrails.reviewing import Check

__all__ = ["CedarConfig"]


class CedarConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which policies judge, and what.

    Attributes:
        policies: files of Cedar.
        entities: a file of entities in Cedar's JSON format.
        schema: a file with the schema, in Cedar's own or in JSON; policies and questions are checked by it.
        checks: the texts to judge.
        piece: characters of an answer that are held back until they are judged, together with all that
            went before; null holds back the whole answer.
        max_bytes: of a text; a longer one counts as a failure. A million takes 30 ms.
        action: `block` is all that a policy can do.
    """

    policies: Annotated[list[str], Meta(min_length=1)]
    entities: str | None = None
    schema: str | None = None
    checks: Annotated[list[Check], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: ["prompt", "output"]
    )
    piece: Annotated[int, Meta(ge=1)] | None = None
    max_bytes: Annotated[int, Meta(ge=1024)] = 256 * 1024
    action: Literal["block"] = "block"
