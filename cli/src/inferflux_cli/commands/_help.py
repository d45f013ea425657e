"""Help texts in one form."""

from __future__ import annotations

__all__ = ["examples"]


def examples(*lines: str) -> str:
    """Return an epilog that lists example command lines, one a line."""
    # rich-click joins single lines and keeps paragraphs.
    return "\n\n".join(["Examples:", *lines])
