"""Guessing that a text goes on as it did the last time it looked like this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from inferflux_core.engine.request import Request

__all__ = ["NgramDrafter"]

_LENGTHS: Final = (5, 3)
"""Tokens that must repeat before their continuation is taken for a guess, the surest first."""


class NgramDrafter:
    """Proposes what followed the last tokens when they occurred before, in the prompt or the output.

    Prompt lookup decoding (Saxena 2023) with an index that grows with the text, so that a step costs a few
    dictionary look-ups however long the text is.

    Args:
        lengths: numbers of last tokens to look for, in order of preference.
    """

    def __init__(self, lengths: Sequence[int] = _LENGTHS) -> None:
        self._lengths = tuple(lengths)
        self._indices: dict[int, _Index] = {}

    @property
    def name(self) -> str:
        """What it is known by."""
        return "n-gram"

    def accepts(self, request: Request, num_tokens: int) -> bool:
        """Any: looking is cheap."""
        return True

    def seconds(self, requests: Sequence[Request], num_tokens: int) -> float:
        """Nothing beside a pass."""
        return 0.0

    def propose(self, requests: Sequence[Request], num_tokens: int) -> list[list[int]]:
        """Continue each text as its latest repetition went on; nothing where nothing repeats."""
        return [self._propose(request, num_tokens) for request in requests]

    def forget(self, request: Request) -> None:
        """Drop the index of a request."""
        self._indices.pop(request.request_id, None)

    def close(self) -> None:
        """Nothing to free."""

    def _propose(self, request: Request, num_tokens: int) -> list[int]:
        index = self._indices.get(request.request_id)
        if index is None:
            index = self._indices[request.request_id] = _Index(self._lengths)
        tokens = request.token_ids
        start = index.continuation(tokens)
        if start is None:
            return []
        # Where the repetition runs into the end of the text, it goes on repeating.
        period = len(tokens) - start
        return [tokens[start + i % period] for i in range(num_tokens)]


class _Index:
    """Where every short run of tokens of one text ended the last time, not counting its very end."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self._ends: tuple[tuple[int, dict[tuple[int, ...], int]], ...] = tuple(
            (length, {}) for length in lengths
        )
        self._known = 1

    def continuation(self, tokens: Sequence[int]) -> int | None:
        """Position of the token that followed the last occurrence of how the text ends."""
        for end in range(self._known, len(tokens)):
            for length, ends in self._ends:
                if length <= end:
                    ends[tuple(tokens[end - length : end])] = end
        self._known = max(self._known, len(tokens))
        for length, ends in self._ends:
            found = ends.get(tuple(tokens[-length:]))
            if found is not None:
                return found
        return None
