"""Names of blocks.

A sequence is cut into blocks of `BLOCK_SIZE` tokens. A block is named by a hash over its own tokens and
the name of the block before it, so equal names mean equal prefixes (as in vLLM and nano-vllm).
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from typing import Final

__all__ = ["BLOCK_SIZE", "DIGEST_BYTES", "block_names", "tail_name"]

BLOCK_SIZE: Final = 64
"""Tokens of a block; also the tile of llama.cpp's attention on CPU."""

DIGEST_BYTES: Final = 16
"""Length of a name."""


def block_names(token_ids: Sequence[int], salt: bytes, known: Sequence[bytes] = ()) -> list[bytes]:
    """Name the full blocks of a sequence.

    Args:
        token_ids: the whole sequence.
        salt: parts the caches of those who must not share, as timing tells what others have asked.
        known: names of the first blocks, if they have been computed before.
    """
    names = list(known)
    parent = _last(names, salt)
    for start in range(len(names) * BLOCK_SIZE, len(token_ids) - BLOCK_SIZE + 1, BLOCK_SIZE):
        parent = _name(parent, token_ids[start : start + BLOCK_SIZE])
        names.append(parent)
    return names


def tail_name(token_ids: Sequence[int], salt: bytes, names: Sequence[bytes]) -> bytes:
    """Name what follows the full blocks of a sequence, which have these names."""
    return _name(_last(names, salt), token_ids[len(names) * BLOCK_SIZE :])


def _last(names: Sequence[bytes], salt: bytes) -> bytes:
    return names[-1] if names else hashlib.blake2b(salt, digest_size=DIGEST_BYTES).digest()


def _name(parent: bytes, token_ids: Sequence[int]) -> bytes:
    tokens = array("i", token_ids).tobytes()
    return hashlib.blake2b(parent + tokens, digest_size=DIGEST_BYTES).digest()
