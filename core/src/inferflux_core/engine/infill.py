"""Filling in the middle: prompts for models that were trained to write between two texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from inferflux_core.engine.runner import Tokenizer

__all__ = ["InfillFormat", "detect_infill"]


@dataclass(frozen=True, slots=True)
class InfillFormat:
    """The control tokens around what comes before and after the gap, as token ids."""

    before: int
    after: int
    middle: int

    def prompt(self, prefix: Sequence[int], suffix: Sequence[int]) -> list[int]:
        """The tokens after which the model writes what belongs between prefix and suffix."""
        return [self.before, *prefix, self.after, *suffix, self.middle]


_SPELLINGS: Final = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ("<\uff5cfim▁begin\uff5c>", "<\uff5cfim▁hole\uff5c>", "<\uff5cfim▁end\uff5c>"),
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),
    ("[PREFIX]", "[SUFFIX]", "[MIDDLE]"),
)


def detect_infill(tokenizer: Tokenizer) -> InfillFormat | None:
    """The format of a model, if its vocabulary has the tokens for one."""
    for spelling in _SPELLINGS:
        found = [tokenizer.encode(t, add_special=False, parse_special=True) for t in spelling]
        if all(len(ids) == 1 for ids in found):
            return InfillFormat(*(ids[0] for ids in found))
    return None
