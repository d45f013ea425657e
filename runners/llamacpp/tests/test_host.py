"""Noticing that other processes compute meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferflux_runner_llamacpp import host


class Machine:
    """Two cores, on which others have computed for so many seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.others = 5.0
        monkeypatch.setattr(host.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(host, "_seconds_of_others", lambda: self.others)
        monkeypatch.setattr(host, "core_count", lambda: 2)
        monkeypatch.setattr(host.os, "cpu_count", lambda: 4)


@pytest.mark.parametrize(
    ("others", "disturbed"), [(0.0, False), (20.0, False), (22.0, False), (24.0, True)]
)
def test_only_what_spare_cores_cannot_take_disturbs(
    monkeypatch: pytest.MonkeyPatch, others: float, disturbed: bool
) -> None:
    machine = Machine(monkeypatch)
    watch = host.Watch()
    machine.now += 10.0
    machine.others += others
    assert watch.disturbed is disturbed


def test_processor_time_of_others_leaves_out_our_own(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100000 0 20000 9999999 888888 0 0 30000 0 0\ncpu0 1 2 3\n")
    seconds = host._seconds_of_others(stat)
    assert 1000 < seconds <= 1500
    assert host._seconds_of_others(tmp_path / "missing") == 0.0
