"""What an operator can set under `runtime.scheduler_options`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["FairConfig"]

Factor = Annotated[float, Meta(ge=0.001, le=1000)]


class FairConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who gets how much; every number is between 0.001 and 1000.

    Attributes:
        weights: shares of tenants by name; those that are not named have 1.
        input_token_cost: what a computed token of a prompt counts.
        output_token_cost: what a generated token counts.
    """

    weights: dict[str, Factor] = {}
    input_token_cost: Factor = 1.0
    output_token_cost: Factor = 2.0
