from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from bench.client import Answer
from bench.regimes.__main__ import main
from bench.regimes.arrival import _gaps
from bench.soak import Tally, _growth
from bench.soak import main as soak
from bench.tests.test_serve import FAKE, free_port


def specs(folder: Path, *modes: str) -> str:
    servers = []
    for mode in modes:
        port = free_port()
        servers.append(
            {
                "name": f"{mode}-{port}",
                "command": [sys.executable, FAKE, str(port), mode],
                "url": f"http://127.0.0.1:{port}",
            }
        )
    file = folder / "servers.json"
    file.write_text(json.dumps({"servers": servers}))
    return str(file)


@pytest.mark.parametrize(
    ("situation", "size", "numbers"),
    [
        ("arrival", 1, {"ITL p99 ms", "ITL p50 ms", "TTFT of the long prompt ms"}),
        ("burst", 5, {"until all have a first token s"}),
        (
            "conversations",
            9,
            {"TTFT p50 of turns 2-5 ms", "TTFT p99 of turns 2-5 ms", "TTFT p50 of turn 1 ms"},
        ),
        (
            "steady",
            8,
            {
                f"{users} users: {name}"
                for users in (1, 8, 32, 64)
                for name in ("output tok/s", "TTFT p50 ms", "ITL p99 ms")
            },
        ),
        ("repetition", 1, {"output tok/s"}),
        ("restart", 1, {"TTFT cold ms", "TTFT after a restart ms", "share of cold"}),
    ],
)
def test_a_situation_is_staged_on_every_server(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    situation: str,
    size: int,
    numbers: set[str],
) -> None:
    file = specs(tmp_path, "good", "good")

    status = main([situation, "--servers", file, "--runs", "1", "--size", str(size), "--json"])

    results = json.loads(capsys.readouterr().out)
    assert status == 0
    assert len(results) == 2
    for (run,) in results.values():
        assert set(run) == numbers
        # The fake sends everything at once: between two tokens there may be no time at all.
        assert all(value >= 0 for value in run.values())


def test_ratios_are_of_the_first_server_to_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = specs(tmp_path, "good", "good", "good")

    assert main(["burst", "--servers", file, "--runs", "2", "--size", "2"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "/" in line and "[" in line] == lines[-2:]


def test_a_server_that_fails_ends_the_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["burst", "--servers", specs(tmp_path, "error-later"), "--runs", "1"]) == 1
    assert "engine died" in capsys.readouterr().err


def test_only_gaps_during_the_arrival_count() -> None:
    answer = Answer(0.0, stamps=[1.0, 2.0, 3.0, 5.0, 6.0, 7.0])

    assert _gaps([answer], 2.5, 5.5) == [1000.0, 2000.0, 1000.0]


def test_a_soak_reports_what_nobody_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--minutes", "0.02", "--users", "2", "--kill-every", "0"]

    assert soak(["--servers", specs(tmp_path, "error-later"), *arguments]) == 1
    assert "engine died" in capsys.readouterr().err


def test_memory_that_grows_late_is_a_problem() -> None:
    steady = Tally(memory=[10.0, 50.0, 100.0, 100.0, 101.0, 99.0])
    growing = Tally(memory=[10.0, 50.0, 100.0, 100.0, 120.0, 140.0])

    assert _growth(steady) == []
    assert _growth(growing) == ["memory grew from 100 to 140 MiB"]
