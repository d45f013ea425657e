"""What an operator can set under `guardrails.options.pii`."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

__all__ = ["ENTITIES", "Action", "Entity", "PIIConfig"]

Entity = Literal["email", "iban", "card", "ssn", "ip", "phone"]
Action = Literal["mask", "block"]

ENTITIES: tuple[Entity, ...] = get_args(Entity)
"""Every kind of personal data, in the order in which they are tried at one place in a text."""


class PIIConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to look for and what to do about it.

    Attributes:
        entities: the kinds of personal data to look for.
        action: `mask` replaces a finding with its kind, e.g. `[EMAIL]`; `block` stops the text.
        actions: kinds that are treated differently from `action`.
        allow: texts that may pass although they are findings; case does not matter.
        phone_regions: countries (ISO 3166 codes) whose numbers are recognised without `+` and
            country code.
    """

    entities: list[Entity] = msgspec.field(default_factory=lambda: list(ENTITIES))
    action: Action = "mask"
    actions: dict[Entity, Action] = {}
    allow: list[str] = []
    phone_regions: list[str] = msgspec.field(default_factory=lambda: ["US"])
