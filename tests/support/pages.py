"""The documentation, in pieces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FOLDERS = ("api", "bench", "cli", "config", "core", "docs", "plugins", "runners")
_FENCE = re.compile(r"^ *```(?P<language>\S*)")
_FILE = re.compile(r"^<!-- file: (?P<path>\S+) -->$")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    `path` is the file it shows, if the line before it says `<!-- file: path -->`.
    """

    page: Path
    line: int
    language: str
    text: str
    path: str | None = None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every Markdown page a reader may open."""
    found = [*ROOT.glob("*.md"), *(p for name in _FOLDERS for p in (ROOT / name).rglob("*.md"))]
    return sorted(page for page in found if ".dist-info" not in str(page))


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    before, start, language, text, path = "", 0, "", "", None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if fence and not start:
            start, language, text = number, fence["language"], ""
            shown = _FILE.match(before)
            path = shown["path"] if shown else None
        elif fence:
            yield Block(page, start, language, text, path)
            start = 0
        elif start:
            text += f"{line}\n"
        before = line
    assert not start, f"{page}:{start}: the block is never closed"
