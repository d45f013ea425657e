"""What is wrong with a configuration, before it is known where the value came from."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["KeyPath", "Problem", "did_you_mean", "format_path"]

KeyPath = tuple[str | int, ...]
"""Where a value sits in the tree: `("auth", "api_keys", 0, "key")`."""


class Problem(Exception):  # noqa: N818 - becomes a ConfigError once the origin of `path` is known
    """A value is refused. The text never repeats a value that may be secret."""

    def __init__(self, path: KeyPath, text: str, *, hint: str | None = None) -> None:
        super().__init__(text)
        self.path = path
        self.text = text
        self.hint = hint


def format_path(path: KeyPath) -> str:
    """Write a path the way the documentation does: `auth.api_keys[0].key`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggest the known names nearest to `word`, or list them all if none is near."""
    names = sorted(known)
    if near := get_close_matches(word, names, n=3, cutoff=0.6):
        return f"did you mean {' or '.join(near)}?"
    return f"known here: {', '.join(names)}" if names else "nothing can be set here"
