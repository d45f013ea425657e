"""The bytes that tokens stand for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.folder.tokenizing.definition import FILE, Definition

__all__ = ["Speller", "byte_level", "speller_of"]

Speller = Callable[[str], bytes]
"""From a token as the vocabulary writes it to the bytes it stands for."""

_BYTE_TOKEN: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")


def speller_of(definition: Definition) -> Speller:
    """How a vocabulary is to be read.

    Raises:
        ModelLoadError: in no way that is known.
    """
    parts = [
        part
        for value in (definition.pre_tokenizer, definition.normalizer, definition.decoder)
        for part in _flattened(value)
    ]
    kinds = {part.get("type") for part in parts}
    if "ByteLevel" in kinds:
        return byte_level
    falls_back = definition.model.byte_fallback or "ByteFallback" in kinds
    if (space := _space(parts)) is not None:
        return _metaspace(space, falls_back=falls_back)
    if definition.model.type == "WordPiece":
        return _word_piece(next((p["prefix"] for p in parts if _is_word_piece(p)), "##"))
    raise ModelLoadError(
        f"{FILE}: this version does not know how its tokens are to be spelt",
        hint="known are byte-level, SentencePiece-like and WordPiece vocabularies",
    )


def _flattened(part: object) -> Iterator[Mapping[str, Any]]:
    """A part of the definition, or those it is a sequence of."""
    if not isinstance(part, dict):
        return
    yield part
    for key in ("normalizers", "pretokenizers", "decoders"):
        for inner in part.get(key) or ():
            yield from _flattened(inner)


def _space(parts: list[Mapping[str, Any]]) -> str | None:
    """What stands for a space, if something does."""
    for part in parts:
        if part.get("type") == "Metaspace":
            return str(part.get("replacement", "▁"))
        if part.get("type") == "Replace" and part.get("pattern") == {"String": " "}:
            return str(part.get("content"))
    return None


def _is_word_piece(part: Mapping[str, Any]) -> bool:
    return part.get("type") == "WordPiece" and isinstance(part.get("prefix"), str)


def _byte_values() -> dict[str, int]:
    """The byte of each letter: printable ones stand for themselves, as GPT-2's vocabulary has it."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(256 + number): byte for number, byte in enumerate(others)}


_BYTES: Final = _byte_values()


def byte_level(token: str) -> bytes:
    """The bytes of a token that is written in letters of `_BYTES`, or else as it is."""
    try:
        return bytes([_BYTES[letter] for letter in token])
    except KeyError:
        return token.encode()


def _metaspace(space: str, *, falls_back: bool) -> Speller:
    def spell(token: str) -> bytes:
        if falls_back and (match := _BYTE_TOKEN.match(token)):
            return bytes([int(match[1], 16)])
        return token.replace(space, " ").encode()

    return spell


def _word_piece(prefix: str) -> Speller:
    def spell(token: str) -> bytes:
        if token.startswith(prefix):
            return token.removeprefix(prefix).encode()
        return b" " + token.encode()

    return spell
