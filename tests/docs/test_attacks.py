"""The list of attacks is complete, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from itertools import chain
from typing import NamedTuple

from support.pages import ROOT

PAGE = ROOT / "docs" / "attacks.md"
CASES = {"H": 33, "A": 20, "R": 9, "G": 21, "M": 16, "E": 15, "P": 17, "L": 9, "O": 7}
RESULTS = ("survived", "refused", "out of scope")


class Case(NamedTuple):
    id: str
    attack: str
    outcome: str
    result: str
    tests: str

    @property
    def kind(self) -> str:
        return self.result.partition(":")[0]

    @property
    def reason(self) -> str:
        return self.result.partition(":")[2].strip()


def rows() -> list[list[str]]:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line[1:-1].split(" | ")] for line in lines if line[:1] == "|"]


LIST = [Case(*row) for row in rows() if re.fullmatch(r"[A-Z]\d+", row[0])]
NAMED = sorted({name for case in LIST for name in re.findall("`([^`]+)`", case.tests)})


@cache
def defined_in(path: str) -> frozenset[str]:
    """Functions of a file, also of its classes, and names that are given to test cases."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = [
        n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    targets = chain.from_iterable(n.targets for n in tree.body if isinstance(n, ast.Assign))
    return frozenset((*functions, *(t.id for t in targets if isinstance(t, ast.Name))))


def test_every_case_is_there_once() -> None:
    expected = [f"{group}{n + 1}" for group, count in CASES.items() for n in range(count)]
    assert [case.id for case in LIST] == expected


def test_a_case_has_a_result_and_a_test_or_a_reason() -> None:
    for case in LIST:
        assert case.kind in RESULTS, case
        assert case.attack, case
        assert case.outcome, case
        is_out = case.kind == "out of scope"
        assert ("::" in case.tests) != is_out, case
        assert bool(case.reason) == is_out, case


def test_the_tests_that_are_named_exist() -> None:
    assert len(NAMED) > 150
    missing = []
    for name in NAMED:
        path, _, function = name.partition("::")
        if not function.startswith("test_") or function not in defined_in(path):
            missing.append(name)
    assert not missing


def test_the_figures_are_those_of_the_rows() -> None:
    groups = {
        row[0].partition(":")[0]: list(map(int, row[1:]))
        for row in rows()
        if len(row) == 5 and row[1].isdigit()
    }
    assert groups.keys() == {*CASES, "all"}
    for group, figures in groups.items():
        kinds = Counter(case.kind for case in LIST if group in ("all", case.id[0]))
        assert figures == [kinds.total(), *(kinds[kind] for kind in RESULTS)]
