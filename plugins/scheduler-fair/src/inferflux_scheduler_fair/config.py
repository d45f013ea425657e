"""What an operator can set under `runtime.scheduler_options`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["FairConfig"]

Positive = Annotated[float, Meta(gt=0)]


class FairConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who gets how much.

    Attributes:
        weights: shares of tenants by name; those that are not named have 1.
        input_token_cost: what a computed token of a prompt counts.
        output_token_cost: what a generated token counts.
    """

    weights: dict[str, Positive] = {}
    input_token_cost: Positive = 1.0
    output_token_cost: Positive = 2.0
