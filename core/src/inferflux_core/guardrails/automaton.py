"""Aho-Corasick: finds any of many words in one pass over a text.

A. V. Aho and M. J. Corasick, "Efficient string matching: an aid to bibliographic search",
Communications of the ACM 18(6), 1975. States are integers; state 0 is the start.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

__all__ = ["Automaton"]


class Automaton:
    """An immutable set of words, ready to be searched for.

    Attributes:
        depth: per state, the length of the longest end of the text read so far that begins a word.
        accepts: per state, the length of the longest word with which the text read so far ends, or 0.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._edges: list[dict[str, int]] = [{}]
        self.depth = array("H", [0])
        self.accepts = array("H", [0])
        for word in words:
            self._insert(word)
        self._fallback = array("L", bytes(len(self._edges) * array("L").itemsize))
        self._link()

    def step(self, state: int, char: str) -> int:
        """Read one character and return the next state."""
        edges, fallback = self._edges, self._fallback
        while (following := edges[state].get(char)) is None:
            if state == 0:
                return 0
            state = fallback[state]
        return following

    def _insert(self, word: str) -> None:
        state = 0
        for char in word:
            following = self._edges[state].get(char)
            if following is None:
                following = len(self._edges)
                self._edges[state][char] = following
                self._edges.append({})
                self.depth.append(self.depth[state] + 1)
                self.accepts.append(0)
            state = following
        self.accepts[state] = len(word)

    def _link(self) -> None:
        """Point every state at the longest proper ending of its text that is a state too."""
        queue = list(self._edges[0].values())
        for state in queue:
            for char, following in self._edges[state].items():
                target = self.step(self._fallback[state], char)
                self._fallback[following] = target
                # A state's own word is longer than any that ends it.
                self.accepts[following] = self.accepts[following] or self.accepts[target]
                queue.append(following)
