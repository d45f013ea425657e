"""What an operator can set under `guardrails.options.presidio`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from inferflux_core.guardrails.reviewing import ReviewerConfig

__all__ = ["PresidioConfig"]


class PresidioConfig(ReviewerConfig, frozen=True, kw_only=True):
    """What to look for, and in which language.

    Attributes:
        entities: kinds of personal data, by Presidio's names, such as `PERSON`; null looks for all that
            can be found.
        threshold: score from which a finding counts, 0 to 1.
        language: of the texts, such as `en`.
        model: an installed package of spaCy, such as `en_core_web_sm`; needed for names, places and other
            things that follow no pattern. It is never downloaded.
        timeout: seconds for one text.
        max_bytes: of a text; a longer one counts as a failure. 10,000 take about 0.2 s without a model.
    """

    entities: Annotated[list[str], Meta(min_length=1)] | None = None
    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.5
    language: Annotated[str, Meta(pattern="^[a-z]{2,3}$")] = "en"
    model: str | None = None
    timeout: Annotated[float, Meta(gt=0, le=25)] = 5.0
    max_bytes: Annotated[int, Meta(ge=1024, le=1_000_000)] = 64 * 1024
