"""A vocabulary of the 256 bytes and two control tokens."""

from __future__ import annotations

__all__ = ["BOS_ID", "EOS_ID", "ByteTokenizer"]

BOS_ID = 256
EOS_ID = 257

_TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant: "


class ByteTokenizer:
    """One token per byte of UTF-8."""

    vocab_size = 258
    end_of_generation_ids = frozenset({EOS_ID})
    bos_text = ""
    eos_text = ""
    chat_template: str | None = _TEMPLATE

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Tokenize; control tokens are never spelt out in text, so `parse_special` changes nothing."""
        del parse_special
        return [BOS_ID] * add_special + list(text.encode())

    def piece(self, token_id: int) -> bytes:
        """The byte itself."""
        return bytes([token_id]) if token_id < BOS_ID else b""
