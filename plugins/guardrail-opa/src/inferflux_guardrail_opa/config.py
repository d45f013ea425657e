"""What an operator can set under `guardrails.options.opa`."""

from __future__ import annotations

from typing import Literal

from inferflux_core.guardrails.reviewing import ReviewerConfig

__all__ = ["OPAConfig"]


class OPAConfig(ReviewerConfig, frozen=True, kw_only=True):
    """Whom to ask, and about what.

    Attributes:
        endpoint: URL of the decision; the key `guardrails.opa_endpoint`.
        api: what is spoken there: OPA's data API, or AuthZEN's evaluation.
    """

    endpoint: str
    api: Literal["data", "authzen"] = "data"
