"""No byte and no record of a log changes, comes or goes without `verify` noticing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferflux_api.governance.audit import AuditLog
from inferflux_api.governance.audit.files import rotated_files
from inferflux_api.governance.audit.keys import Verifier
from inferflux_api.governance.audit.reading import files_of
from inferflux_api.governance.audit.records import open_line, seal
from inferflux_api.governance.audit.verification import Report, Verification
from inferflux_api.observability.metrics import Metrics
from inferflux_core.auth import Principal
from inferflux_core.config.schema import AuditConfig

ALICE = Principal("alice", frozenset({"generate"}), tenant="acme", provider="api-keys")
NUMBER = 12


def write(path: Path, number: int = NUMBER, size: int = 64 * 1024 * 1024) -> None:
    config = AuditConfig(path=str(path), max_file_bytes=size)
    log = AuditLog(config, Metrics(lambda: ()))
    for index in range(number):
        log.received(f"r{index}", ALICE, "m")
    log.close()


def verify(path: Path) -> Report:
    verifier = Verifier([path.with_name("audit.jsonl.pub")])
    return Verification(verifier).run(files_of([path.with_name("audit.jsonl")]))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log that nobody writes to any more."""
    path = tmp_path_factory.mktemp("whole") / "audit.jsonl"
    write(path)
    assert verify(path).status == "intact"
    return path


@pytest.fixture(scope="module")
def changed(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], Report]:
    """The same log with other bytes."""
    copy = tmp_path_factory.mktemp("changed")
    for suffix in ("pub", "head"):
        shutil.copy(f"{whole}.{suffix}", copy)

    def report(content: bytes) -> Report:
        (copy / "audit.jsonl").write_bytes(content)
        return verify(copy / "audit.jsonl")

    return report


often = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
positions = st.floats(0, 1, exclude_max=True)


@often
@given(position=positions, byte=st.integers(0, 255))
def test_a_byte_that_changes(
    whole: Path, changed: Callable[[bytes], Report], position: float, byte: int
) -> None:
    content = bytearray(whole.read_bytes())
    at = int(position * len(content))
    expected = "intact" if content[at] == byte else "not"
    content[at] = byte
    report = changed(bytes(content))
    assert report.status == expected or (expected == "not" and report.status != "intact")
    if report.status != "intact":
        # It names the place: nothing before it is doubted, and the line is the one that was changed.
        assert report.last <= bytes(content[:at]).count(b"\n") + 1


@often
@given(position=positions, inserted=st.binary(min_size=1, max_size=5))
def test_bytes_that_come(
    whole: Path, changed: Callable[[bytes], Report], position: float, inserted: bytes
) -> None:
    content = whole.read_bytes()
    at = int(position * len(content))
    other = content[:at] + inserted + content[at:]
    assert changed(other).status != "intact"


@often
@given(position=positions, length=st.integers(1, 2000))
def test_bytes_that_go(
    whole: Path, changed: Callable[[bytes], Report], position: float, length: int
) -> None:
    content = whole.read_bytes()
    at = int(position * len(content))
    assert changed(content[:at] + content[at + length :]).status != "intact"


@often
@given(first=positions, second=positions)
def test_records_that_go_change_places_or_come_twice(
    whole: Path, changed: Callable[[bytes], Report], first: float, second: float
) -> None:
    lines = whole.read_bytes().splitlines(keepends=True)
    a, b = int(first * len(lines)), int(second * len(lines))
    report = changed(b"".join(lines[:a] + lines[a + 1 :]))
    # That it does not begin at the beginning is known at the end: the files before may have expired.
    assert report.last == (a or len(lines))
    assert report.status == ("truncated" if a == len(lines) - 1 else "broken")
    assert changed(b"".join([*lines[:b], lines[a], *lines[b:]])).status == "broken"
    if a != b:
        lines[a], lines[b] = lines[b], lines[a]
        assert changed(b"".join(lines)).status == "broken"


@pytest.mark.parametrize("at", range(2, NUMBER + 2))
def test_a_record_that_is_replaced_with_its_own_hash(
    whole: Path, changed: Callable[[bytes], Report], at: int
) -> None:
    lines = whole.read_bytes().splitlines()
    forged = msgspec.structs.replace(open_line(lines[at]).record, subject="mallory")
    lines[at] = seal(forged).line
    report = changed(b"\n".join(lines) + b"\n")
    assert (report.status, report.last) == ("broken", at + 1)
    assert "does not follow" in report.problem


@pytest.mark.parametrize("kept", range(NUMBER + 4))
def test_an_end_that_goes_is_named_with_what_was_signed(
    whole: Path, changed: Callable[[bytes], Report], kept: int
) -> None:
    lines = whole.read_bytes().splitlines(keepends=True)
    report = changed(b"".join(lines[:kept]))
    assert report.status == ("broken" if kept == 0 else "truncated")
    if kept:
        assert (report.last, report.expected) == (kept, NUMBER + 4)


def test_without_the_head_an_end_that_is_not_signed_is_at_least_named(
    whole: Path, tmp_path: Path
) -> None:
    shutil.copy(f"{whole}.pub", tmp_path)
    lines = whole.read_bytes().splitlines(keepends=True)
    (tmp_path / "audit.jsonl").write_bytes(b"".join(lines[:8]))
    report = verify(tmp_path / "audit.jsonl")
    assert (report.status, report.signed, report.last) == ("intact", 2, 8)


def test_a_chain_made_anew_lacks_the_signatures(whole: Path, tmp_path: Path) -> None:
    """Whoever can write the file can compute hashes, and sign with a key of their own."""
    write(tmp_path / "audit.jsonl")
    shutil.copy(f"{whole}.pub", tmp_path)
    report = verify(tmp_path / "audit.jsonl")
    assert (report.status, report.last) == ("broken", 0)
    assert "not signed by a key" in report.problem


def test_a_missing_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, number=60, size=4096)
    files = rotated_files(path)
    assert len(files) >= 3
    assert verify(path).status == "intact"
    for file in files:
        moved = file.rename(tmp_path / "away")
        report = verify(path)
        assert report.status == "broken"
        assert "missing" in report.problem
        moved.rename(file)
    moved = path.rename(tmp_path / "away")
    assert verify(path).status == "truncated"
    moved.rename(path)
    files[0].rename(tmp_path / "away")
    files[1].rename(files[0])
    (tmp_path / "away").rename(files[1])
    assert verify(path).status == "broken"


def test_threads_that_write_at_once_make_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    config = AuditConfig(path=str(path), max_file_bytes=8192)
    log = AuditLog(config, Metrics(lambda: ()))

    def work(name: str) -> None:
        for index in range(200):
            log.received(f"{name}{index}", ALICE, "m")

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert verify(path).status == "intact"
    assert len(rotated_files(path)) > 10
    noted = {
        json.loads(line).get("request_id")
        for file in files_of([path])
        for line in file.read_bytes().splitlines()
    }
    assert noted >= {f"{name}{index}" for name in "abcd" for index in range(200)}


WRITER = """
import sys
from inferflux_api.governance.audit import AuditLog
from inferflux_api.observability.metrics import Metrics
from inferflux_core.auth import Principal
from inferflux_core.config.schema import AuditConfig

log = AuditLog(AuditConfig(path=sys.argv[1], max_file_bytes=8192), Metrics(lambda: ()))
principal = Principal("alice", frozenset())
number = 0
while True:
    log.received(f"{sys.argv[2]}-{number}", principal, "m" * (number % 300))
    sys.stdout.write(f"{sys.argv[2]}-{number}\\n")
    sys.stdout.flush()
    number += 1
"""


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    acknowledged: set[str] = set()
    for turn in range(8):
        command = [sys.executable, "-c", WRITER, str(path), str(turn)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(20 + turn * 37):
                acknowledged.add(writer.stdout.readline().strip())
            writer.kill()
            # A line that was cut off by the kill acknowledges nothing.
            acknowledged |= {rest.strip() for rest in writer.stdout if rest.endswith("\n")}
    report = verify(path)
    assert (report.status, report.problem) == ("intact", "")
    entries = [
        open_line(line).record
        for file in files_of([path])
        for line in file.read_bytes().splitlines()
        if line.endswith(b'"}')
    ]
    assert acknowledged <= {entry.request_id for entry in entries}
    assert len(acknowledged) > 1000
