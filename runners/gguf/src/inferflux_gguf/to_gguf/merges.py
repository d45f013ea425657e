"""The merges of byte-pair encoding, and the scores that SentencePiece has instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final, TypeAlias

from inferflux_core.models.folder.fields import Fields

__all__ = ["Merge", "read_merges", "scores_of"]

Merge: TypeAlias = tuple[str, str]
_OTHER: Final = "llama.cpp merges by scores here, which cannot say this; no conversion is exact"


def read_merges(model: Fields, vocab: dict[str, int]) -> list[Merge]:
    """The merges, the first the most urgent, from either form that files have.

    Raises:
        ModelLoadError: there are none, or they do not fit the vocabulary.
    """
    merges = [_pair(model, entry) for entry in model.array("merges")]
    if not merges:
        raise model.error("it has no merges")
    if len(set(merges)) != len(merges):
        raise model.error("it has a merge twice")
    for left, right in merges:
        if left not in vocab or right not in vocab or left + right not in vocab:
            raise model.error(
                f"the merge of {left[:100]!r} and {right[:100]!r} is none of its tokens"
            )
        if " " in left or " " in right:
            raise model.error(f"the merge of {left[:100]!r} and {right[:100]!r} holds a space")
    return merges


def _pair(model: Fields, entry: object) -> Merge:
    parts = entry.split(" ") if isinstance(entry, str) else entry
    if not isinstance(parts, list) or len(parts) != 2:
        raise model.error(f"{str(entry)[:100]!r} is no merge")
    left, right = parts
    if not isinstance(left, str) or not isinstance(right, str) or not left or not right:
        raise model.error(f"{str(entry)[:100]!r} is no merge")
    return left, right


def scores_of(
    model: Fields,
    tokens: Sequence[str],
    merges: Sequence[Merge],
    vocab: dict[str, int],
    normal: Iterable[str],
) -> list[float]:
    """Scores by which llama.cpp merges in the same order.

    It merges whatever makes a token, the highest score first. So all ways to make a token must be merges,
    one behind the other, as they are where the merges were themselves made from scores.

    Args:
        model: for messages.
        tokens: `[vocab]`.
        merges: in their order.
        vocab: the numbers of tokens.
        normal: the tokens that are made of text.

    Returns:
        `[vocab]`.

    Raises:
        ModelLoadError: no scores give the same order.
    """
    order = [token for token, _ in groupby(left + right for left, right in merges)]
    ranks: dict[str, int] = {}
    for rank, token in enumerate(order):
        ranks.setdefault(token, rank)
    known = set(merges)
    runs = dict.fromkeys(order, 0)
    for token in order:
        runs[token] += 1
    for token in normal:
        ways = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        complete = all(way in known for way in ways if way[0] in vocab and way[1] in vocab)
        if not complete or runs.get(token, 1) != 1:
            raise model.error(
                f"the merges that make {token[:100]!r} are no SentencePiece's", _OTHER
            )
    return [-float(ranks.get(token, len(order))) for token in tokens]
