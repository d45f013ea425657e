"""What an operator can set under `guardrails.options.pii`."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

__all__ = ["ENTITIES", "Action", "Country", "Entity", "EntityAction", "PIIConfig"]

Entity = Literal["email", "iban", "national_id", "card", "ssn", "ip", "phone"]
Country = Literal[
    "BE", "BR", "CA", "CN", "DE", "ES", "FI", "FR", "GB", "IN", "IT", "NL", "PL", "SE", "TR"
]
Action = Literal["mask", "block"]
EntityAction = Literal["mask", "block", "flag"]

ENTITIES: tuple[Entity, ...] = get_args(Entity)
"""Every kind of personal data, in the order in which they are tried at one place in a text."""


class PIIConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to look for and what to do about it.

    Attributes:
        entities: the kinds of personal data to look for.
        action: `mask` replaces a finding with its kind, e.g. `[EMAIL]`; `block` stops the text.
        actions: kinds that are treated differently from `action`; `flag` notes a finding and lets it pass.
        allow: texts that may pass although they are findings; case does not matter.
        phone_regions: countries (ISO 3166 codes) whose numbers are recognised without `+` and
            country code.
        national_ids: countries whose numbers for persons are recognised; those of the United States are
            `ssn`. Numbers of CA, GB, IN and NL have but one check digit and no other mark, so they are
            looked for only if they are named here.
    """

    entities: list[Entity] = msgspec.field(default_factory=lambda: list(ENTITIES))
    action: Action = "mask"
    actions: dict[Entity, EntityAction] = {}
    allow: list[str] = []
    phone_regions: list[str] = msgspec.field(default_factory=lambda: ["US"])
    national_ids: list[Country] = msgspec.field(
        default_factory=lambda: ["BE", "BR", "CN", "DE", "ES", "FI", "FR", "IT", "PL", "SE", "TR"]
    )
