"""docs/compat, as a program reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from support.pages import ROOT

__all__ = ["CompatPage", "Endpoint", "all_parameters", "read_page"]

FOLDER = ROOT / "docs"
STATUSES = frozenset({"works", "ignored", "refused"})
_NAME = re.compile(r"`([^`]+)`")
_KINDS = {"endpoint": "endpoints", "parameter": "parameters"}
_INCLUDES = "all of "


@dataclass(frozen=True)
class Endpoint:
    """A row that names an endpoint; `scope` is None for those that do not exist here."""

    status: str
    scope: str | None


@dataclass
class CompatPage:
    """The tables of a page.

    Attributes:
        endpoints: by name: `METHOD /path`, `package.Service/Method`, or `namespace.call`.
        parameters: of each endpoint, from the tables below headings that name it: status by name.
        includes: endpoints whose parameters an endpoint has too, by its name.
    """

    path: Path
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    parameters: dict[str, dict[str, str]] = field(default_factory=dict)
    includes: dict[str, list[str]] = field(default_factory=dict)


def read_page(name: str) -> CompatPage:
    """Read `docs/NAME.md`."""
    page = CompatPage(FOLDER / f"{name}.md")
    subjects: list[str] = []
    kind = ""
    for line in page.path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            subjects, kind = _NAME.findall(line), ""
        elif not line.startswith("|"):
            kind = ""
        elif not kind:
            kind = _KINDS.get(line.strip("| ").split(" | ")[0], "other")
        elif kind != "other" and not line.startswith("|--"):
            _read_row(page, subjects, kind, [cell.strip() for cell in line.split("|")[1:-1]])
    return page


def _read_row(page: CompatPage, subjects: list[str], kind: str, cells: list[str]) -> None:
    names, status = _NAME.findall(cells[0]), cells[1]
    assert names, f"{page.path.name}: a row that names nothing: {cells}"
    assert status in STATUSES, f"{page.path.name}: {status!r} is no status: {cells}"
    if kind == "endpoints":
        scope = None if cells[2] == "-" else cells[2]
        for name in names:
            assert name not in page.endpoints, f"{page.path.name}: {name} stands there twice"
            page.endpoints[name] = Endpoint(status, scope)
        return
    assert subjects, f"{page.path.name}: whose parameter is {names}?"
    for subject in subjects:
        if cells[0].startswith(_INCLUDES):
            page.includes.setdefault(subject, []).extend(names)
        else:
            page.parameters.setdefault(subject, {}).update(dict.fromkeys(names, status))


def all_parameters(pages: Iterable[CompatPage]) -> dict[str, dict[str, str]]:
    """Parameters of each endpoint, with those of the endpoints that it includes."""
    own: dict[str, dict[str, str]] = {}
    includes: dict[str, list[str]] = {}
    for page in pages:
        for endpoint, parameters in page.parameters.items():
            own.setdefault(endpoint, {}).update(parameters)
        for endpoint, others in page.includes.items():
            includes.setdefault(endpoint, []).extend(others)
    return {
        endpoint: {
            n: s
            for other in (*includes.get(endpoint, ()), endpoint)
            for n, s in own.get(other, {}).items()
        }
        for endpoint in own.keys() | includes.keys()
    }
