"""Token ids to text, piece by piece, without ever splitting a character or leaking a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

__all__ = ["Detokenizer"]

_new_decoder = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """Assembles the text of one request.

    Bytes of an unfinished UTF-8 character are held back, and so is any tail that could still grow into
    a stop string. The joined output is the text up to the first stop string.

    Attributes:
        stop_sequence: the stop string that ended the text, once one did.
    """

    __slots__ = ("_decoder", "_held", "_piece", "_stop", "stop_sequence")

    def __init__(self, piece: Callable[[int], bytes], stop: Sequence[str] = ()) -> None:
        self._piece = piece
        self._stop = tuple(stop)
        self._decoder = _new_decoder(errors="replace")
        self._held = ""
        self.stop_sequence: str | None = None

    @property
    def stopped(self) -> bool:
        """Whether a stop string has come."""
        return self.stop_sequence is not None

    def feed(self, token_id: int) -> str:
        """Add one token; return the text that may be released. Sets `stop_sequence` at one."""
        return self._release(self._decoder.decode(self._piece(token_id)))

    def finish(self) -> str:
        """Return what is still held back; an unfinished character becomes U+FFFD."""
        if self.stopped:
            return ""
        text = self._release(self._decoder.decode(b"", final=True)) + self._held
        self._held = ""
        return text

    def _release(self, text: str) -> str:
        if not self._stop:
            return text
        text = self._held + text
        self._held = ""
        found = [(start, stop) for stop in self._stop if (start := text.find(stop)) >= 0]
        if found:
            start, self.stop_sequence = min(found)
            return text[:start]
        keep = max(_partial_match(text, stop) for stop in self._stop)
        cut = len(text) - keep
        self._held = text[cut:]
        return text[:cut]


def _partial_match(text: str, stop: str) -> int:
    """Length of the longest tail of `text` that is a proper prefix of `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
