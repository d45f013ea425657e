"""Keys and values of prompts that have been seen, so that nobody computes them twice.

A sequence is cut into blocks of `BLOCK_SIZE` tokens. A block is named by a hash over its own tokens and
the name of the block before it, so equal names mean equal prefixes (as in vLLM and nano-vllm). Contents
are opaque: what a runner exported, the same runner can import.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

__all__ = ["BLOCK_SIZE", "PrefixCache", "block_names"]

BLOCK_SIZE: Final = 64
"""Tokens of a block; also the tile of llama.cpp's attention on CPU."""

_DIGEST_BYTES: Final = 16


def block_names(token_ids: Sequence[int], salt: bytes, known: Sequence[bytes] = ()) -> list[bytes]:
    """Name the full blocks of a sequence.

    Args:
        token_ids: the whole sequence.
        salt: parts the caches of those who must not share, as timing tells what others have asked.
        known: names of the first blocks, if they have been computed before.
    """
    names = list(known)
    parent = names[-1] if names else hashlib.blake2b(salt, digest_size=_DIGEST_BYTES).digest()
    for start in range(len(names) * BLOCK_SIZE, len(token_ids) - BLOCK_SIZE + 1, BLOCK_SIZE):
        tokens = array("i", token_ids[start : start + BLOCK_SIZE]).tobytes()
        parent = hashlib.blake2b(parent + tokens, digest_size=_DIGEST_BYTES).digest()
        names.append(parent)
    return names


class PrefixCache:
    """Blocks by name, least recently used ones dropped first.

    Args:
        capacity: bytes of content to keep; 0 keeps nothing.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._blocks: OrderedDict[bytes, bytes] = OrderedDict()
        self.size = 0
        self.queries = 0
        self.hits = 0

    @property
    def enabled(self) -> bool:
        """Whether anything is kept."""
        return self._capacity > 0

    def __contains__(self, name: bytes) -> bool:
        return name in self._blocks

    def match(self, names: Sequence[bytes]) -> list[bytes]:
        """Contents of the longest run of blocks, from the first one, that is here."""
        found = []
        for name in names:
            block = self._blocks.get(name)
            if block is None:
                break
            found.append(block)
        # The end of a prefix is worth less than its beginning, so it is to be dropped sooner.
        for name in reversed(names[: len(found)]):
            self._blocks.move_to_end(name)
        self.queries += len(names)
        self.hits += len(found)
        return found

    def missing(self, names: Sequence[bytes]) -> int:
        """Index of the first block that is not here."""
        return next((i for i, name in enumerate(names) if name not in self._blocks), len(names))

    def store(self, name: bytes, content: bytes) -> None:
        """Keep a block, and drop others to make room."""
        if name in self._blocks or len(content) > self._capacity:
            return
        self._blocks[name] = content
        self.size += len(content)
        while self.size > self._capacity:
            _, dropped = self._blocks.popitem(last=False)
            self.size -= len(dropped)

    def check_integrity(self) -> None:
        """Assert that sizes add up; for tests."""
        assert self.size == sum(len(block) for block in self._blocks.values()) <= self._capacity
