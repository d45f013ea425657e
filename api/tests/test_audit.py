"""The audit log: what is written, what is refused if it cannot be, and how it starts again."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from inferflux_api.governance.audit import AuditLog, AuditUnavailableError
from inferflux_api.governance.audit.__main__ import main
from inferflux_api.governance.audit.files import rotated_files
from inferflux_api.governance.audit.flood import Flood
from inferflux_api.governance.audit.journal import Journal
from inferflux_api.observability.metrics import Metrics
from inferflux_core.auth import Principal
from inferflux_core.config.schema import AuditConfig
from inferflux_core.errors import (
    AuthenticationError,
    ConfigError,
    EngineUnavailableError,
    ModelNotFoundError,
    PermissionDeniedError,
    RateLimitedError,
)

ALICE = Principal("alice", frozenset({"generate"}), tenant="acme", provider="api-keys")
BAD_KEY = AuthenticationError("the API key is not valid")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "audit.jsonl"


def metrics() -> Metrics:
    return Metrics(lambda: ())


@contextmanager
def opened(path: Path, counts: Metrics | None = None, **settings: Any) -> Iterator[AuditLog]:
    log = AuditLog(AuditConfig(path=str(path), **settings), counts or metrics(), lambda: 7)
    try:
        yield log
    finally:
        log.close()


def records(path: Path) -> list[dict[str, Any]]:
    files = [*rotated_files(path), path]
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


def events(path: Path) -> list[str]:
    return [record["event"] for record in records(path)]


def verify(path: Path, *, key: Path | None = None) -> int:
    return main(["verify", str(path), "--public-key", str(key or f"{path}.pub")])


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Files of this process may not grow beyond `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_request_has_two_records_in_a_signed_chain(path: Path) -> None:
    with opened(path) as log:
        log.received("r1", ALICE, "m")
        log.completed("r1", ALICE, "m", outcome="stop", prompt_tokens=5, completion_tokens=7)

    assert events(path) == [
        *("started", "checkpoint", "received", "completed", "stopped", "checkpoint"),
    ]
    received, completed = records(path)[2:4]
    assert (received["subject"], received["tenant"], received["seq"]) == ("alice", "acme", 3)
    assert (completed["completion_tokens"], completed["policy_generation"]) == (7, 7)
    assert completed["prev"] == received["hash"]
    assert verify(path) == 0


def test_what_lies_beside_it_is_private_but_the_public_key(path: Path) -> None:
    with opened(path):
        pass
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes.pop("audit.jsonl.pub") == 0o644
    assert set(modes) == {f"audit.jsonl{end}" for end in ("", ".key", ".head", ".lock")}
    assert set(modes.values()) == {0o600}


def test_without_a_path_nothing_is_kept() -> None:
    log = AuditLog(AuditConfig(), metrics())
    log.received("r1", ALICE, "m")
    assert log.refusal(BAD_KEY) is BAD_KEY
    log.close()


@pytest.mark.parametrize("kind", ["folder", "link", "fifo", "foreign", "writable"])
def test_a_log_that_cannot_be_used_stops_the_start(path: Path, kind: str) -> None:
    path.parent.mkdir()
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/dev/null")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.write_text('{"event": "received"}\n' if kind == "foreign" else "")
        path.chmod(0o666 if kind == "writable" else 0o600)
    for _ in range(2):  # the second time, too: nothing was changed, and the lock was let go
        with pytest.raises(ConfigError, match=r"audit\.path"), opened(path):
            pass


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [(b"no key", 0o600, "Ed25519"), (b"", 0o644, "chmod 600"), (None, 0, "openssl genpkey")],
)
def test_a_bad_signing_key_stops_the_start(
    path: Path, tmp_path: Path, content: bytes | None, mode: int, said: str
) -> None:
    key = tmp_path / "signing.pem"
    if content is not None:
        key.write_bytes(content)
        key.chmod(mode)
    with pytest.raises(ConfigError) as caught, opened(path, signing_key=str(key)):
        pass
    assert "audit.signing_key" in str(caught.value)
    assert said in str(caught.value)


def test_the_key_that_is_given_signs(path: Path, tmp_path: Path) -> None:
    with opened(tmp_path / "other.jsonl"):
        pass
    with opened(path, signing_key=str(tmp_path / "other.jsonl.key")):
        pass
    assert verify(path, key=tmp_path / "other.jsonl.pub") == 0
    with opened(tmp_path / "third.jsonl"):
        pass
    assert verify(path, key=tmp_path / "third.jsonl.pub") == 1


def test_another_process_is_refused_while_one_writes(path: Path) -> None:
    script = (
        "import sys\n"
        "from inferflux_api.governance.audit import AuditLog\n"
        "from inferflux_api.observability.metrics import Metrics\n"
        "from inferflux_core.config.schema import AuditConfig\n"
        "AuditLog(AuditConfig(path=sys.argv[1]), Metrics(lambda: ())).close()\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    with opened(path) as log:
        refused = subprocess.run(command, capture_output=True, check=False)
        log.received("r1", ALICE, "m")
    assert refused.returncode == 1
    assert b"another server writes" in refused.stderr
    assert subprocess.run(command, check=False).returncode == 0
    assert events(path).count("started") == 2
    assert verify(path) == 0


def test_no_room_no_service_and_then_it_goes_on(path: Path) -> None:
    counts = metrics()
    with opened(path, counts) as log:
        # Room for a part of a record: that part must not stay.
        with room_for(path.stat().st_size + 50):
            with pytest.raises(AuditUnavailableError) as caught:
                log.received("r1", ALICE, "m")
            assert log.refusal(BAD_KEY) is not BAD_KEY
        assert isinstance(caught.value, EngineUnavailableError)
        assert (caught.value.status, caught.value.code) == (503, "audit_unavailable")
        log.received("r2", ALICE, "m")
    assert [r["request_id"] for r in records(path) if r["event"] == "received"] == ["r2"]
    assert b"inferflux_audit_failures_total 2.0" in counts.render()
    assert verify(path) == 0


def test_what_is_changed_under_it_ends_the_service(path: Path) -> None:
    with opened(path) as log:
        with path.open("a") as file:
            file.write("x")
        with pytest.raises(AuditUnavailableError, match="changed by somebody else"):
            log.received("r1", ALICE, "m")


@pytest.mark.parametrize("away", ["unlink", "rename"])
def test_a_log_that_was_taken_away_ends_the_service(path: Path, away: str) -> None:
    with opened(path) as log:
        path.unlink() if away == "unlink" else path.rename(path.with_name("elsewhere"))
        with pytest.raises(AuditUnavailableError):
            log.received("r1", ALICE, "m")


def test_nothing_is_noted_after_the_end_and_nothing_served(path: Path) -> None:
    with opened(path) as log:
        pass
    with pytest.raises(AuditUnavailableError):
        log.received("r1", ALICE, "m")


@pytest.mark.parametrize(
    ("error", "noted"),
    [
        (BAD_KEY, True),
        (PermissionDeniedError("this key lacks the scope 'admin'"), True),
        (RateLimitedError("too many"), True),
        (ModelNotFoundError("no such model"), False),
    ],
)
def test_refusals_are_noted_by_code(path: Path, error: Any, noted: bool) -> None:
    with opened(path) as log:
        assert log.refusal(error, action="GET /v1/models", client="::1", principal=ALICE) is error
    found = [r for r in records(path) if r["event"] == "refused"]
    assert [(r["reason"], r["action"], r["client"], r["subject"]) for r in found] == (
        [(error.code, "GET /v1/models", "::1", "alice")] if noted else []
    )


@pytest.mark.parametrize("strict", [True, False])
def test_strict_means_no_audit_no_action(path: Path, strict: bool) -> None:
    done = []
    with opened(path, strict=strict) as log, room_for(path.stat().st_size):
        told = log.refusal(BAD_KEY)
        assert told is BAD_KEY or strict
        assert told.code == ("audit_unavailable" if strict else "invalid_api_key")
        try:
            with log.action(ALICE, "unload", "m"):
                done.append("unload")
        except AuditUnavailableError:
            assert strict
        # Requests need their record either way.
        with pytest.raises(AuditUnavailableError):
            log.received("r1", ALICE, "m")
    assert done == ([] if strict else ["unload"])


def test_an_action_is_noted_before_and_after(path: Path) -> None:
    with opened(path) as log:
        with log.action(ALICE, "unload", "m"):
            assert events(path)[-1] == "action"
        with pytest.raises(ModelNotFoundError), log.action(ALICE, "load", "n"):
            raise ModelNotFoundError("no such model")
    found = [r for r in records(path) if r["event"] == "acted"]
    assert [(r["action"], r["target"], r["outcome"]) for r in found] == [
        ("unload", "m", "ok"),
        ("load", "n", "model_not_found"),
    ]


def test_a_flood_of_refusals_is_counted_instead(path: Path) -> None:
    counts = metrics()
    with opened(path, counts) as log:
        for _ in range(1000):
            assert log.refusal(BAD_KEY) is BAD_KEY
        # Another kind of refusal is not drowned in it.
        log.refusal(PermissionDeniedError("no"))
    refused = [r for r in records(path) if r["event"] == "refused"]
    (suppressed,) = (r for r in records(path) if r["event"] == "suppressed")
    assert suppressed["reason"] == "authentication"
    assert len(refused) + suppressed["count"] == 1001
    assert 101 <= len(refused) < 200
    assert refused[-1]["reason"] == "insufficient_scope"
    line = f'inferflux_audit_suppressed_total{{kind="authentication"}} {suppressed["count"]}.0'
    assert line.encode() in counts.render()


def test_a_flood_gets_room_again() -> None:
    now = 0.0
    flood = Flood(lambda: now)
    assert [flood.admits() for _ in range(102)] == [True] * 100 + [False] * 2
    now = 1.0
    assert [flood.admits() for _ in range(3)] == [True, True, False]
    assert (flood.take(), flood.take()) == (3, 0)


@pytest.mark.parametrize("kind", ["none", "redacted", "full"])
def test_prompts_are_opt_in(path: Path, kind: Any) -> None:
    with opened(path, prompts=kind) as log:
        log.prompted("full", "r1", ALICE, "m", ["my number is 4111"])
        log.prompted("redacted", "r1", ALICE, "m", ["my number is ***"])
    found = [r["prompts"] for r in records(path) if r["event"] == "prompt"]
    expected = {"none": [], "redacted": [["my number is ***"]], "full": [["my number is 4111"]]}
    assert found == expected[kind]


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31m", "\u2028", '","hash":"', "\U0001f600" * 3])
def test_nothing_a_client_sends_leaves_its_field(path: Path, text: str) -> None:
    with opened(path) as log:
        log.received("r1", Principal(text, frozenset()), text)
    assert records(path)[2]["subject"] == text
    assert verify(path) == 0
    assert main(["tail", str(path)]) == 0


def test_what_is_no_character_is_spelled_out(path: Path) -> None:
    with opened(path) as log:
        log.received("r1", Principal("\ud83d", frozenset()), "m")
    assert records(path)[2]["subject"] == "\\ud83d"
    assert verify(path) == 0


def test_a_full_file_is_followed_by_another(path: Path) -> None:
    with opened(path, max_file_bytes=4096) as log:
        for number in range(100):
            log.received(f"r{number}", ALICE, "m")
    files = rotated_files(path)
    assert len(files) > 3
    assert all(file.stat().st_size <= 4096 + 500 for file in files)  # and a checkpoint
    found = [r["request_id"] for r in records(path) if r["event"] == "received"]
    assert found == [f"r{number}" for number in range(100)]
    assert verify(path) == 0


def test_a_new_day_begins_a_new_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path) as log:
        log.received("r1", ALICE, "m")
        later = time.time() + 86400
        monkeypatch.setattr(time, "time", lambda: later)
        log.received("r2", ALICE, "m")
    (full,) = rotated_files(path)
    assert full.name == "audit.jsonl.000000000001"
    assert b'"r1"' in full.read_bytes()
    assert b'"r2"' in path.read_bytes()
    assert verify(path) == 0


def test_old_files_go_and_it_is_noted(path: Path) -> None:
    with opened(path, max_file_bytes=4096) as log:
        for number in range(60):
            log.received(f"r{number}", ALICE, "m")
    before = rotated_files(path)
    journal = Journal(path, AuditConfig(path=str(path), keep_days=1), on_entry=lambda entry: None)
    journal.expire()
    assert rotated_files(path) == before  # none is old yet
    now = time.time
    try:
        time.time = lambda: now() + 2 * 86400
        journal.expire()
    finally:
        time.time = now
    journal.close()
    assert not set(before) & set(rotated_files(path))
    gone = [r["detail"] for r in records(path) if r["event"] == "expired"]
    assert gone == [file.name for file in before]
    assert verify(path) == 0


@pytest.mark.parametrize("left", [0.01, 0.3, 0.99])
def test_a_torn_line_is_sealed_at_the_next_start(path: Path, left: float) -> None:
    with opened(path) as log:
        log.received("r1", ALICE, "m")
    content = path.read_bytes().splitlines(keepends=True)
    # As a crash would leave it: the checkpoint of the end was not written any more.
    torn = content[-2][: int(len(content[-2]) * left)]
    path.write_bytes(b"".join(content[:-2]) + torn)
    (path.parent / "audit.jsonl.head").write_bytes(content[1])
    assert verify(path) == 5

    with opened(path) as log:
        log.received("r2", ALICE, "m")
    lines = path.read_bytes().splitlines()
    recovered = json.loads(lines[len(content) - 1])
    assert (recovered["event"], recovered["count"]) == ("recovered", len(torn))
    assert recovered["seq"] == len(content) - 1
    assert verify(path) == 0
    # Nothing but what the crash has left may stand there.
    path.write_bytes(path.read_bytes().replace(torn + b"\n", b'{"seq":9}\n'))
    assert verify(path) == 1


def test_a_line_that_lacks_nothing_but_its_end_is_kept(path: Path) -> None:
    with opened(path):
        pass
    path.write_bytes(path.read_bytes()[:-1])
    with opened(path):
        pass
    assert events(path) == ["started", "checkpoint", "stopped", "checkpoint"] * 2
    assert verify(path) == 0


def test_a_crash_while_the_very_first_line_is_written(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b'{"seq":1,"ti')
    with opened(path):
        pass
    assert verify(path) == 0


def test_a_crash_between_two_files(path: Path) -> None:
    with opened(path) as log:
        log.received("r1", ALICE, "m")
    path.rename(path.with_name("audit.jsonl.000000000001"))
    with opened(path) as log:
        log.received("r2", ALICE, "m")
    assert [r["seq"] for r in records(path)] == list(range(1, len(records(path)) + 1))
    assert verify(path) == 0


def test_an_end_that_was_cut_off_is_a_gap_for_ever(path: Path) -> None:
    with opened(path) as log:
        log.received("r1", ALICE, "m")
    content = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(content[:3]))
    with opened(path):
        pass
    assert verify(path) == 1
    (gap,) = (r for r in records(path) if r["event"] == "gap")
    assert gap["seq"] == len(content) + 1


def test_records_that_are_not_signed_are_after_a_while(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inferflux_api.governance.audit.keeper._TICK_SECONDS", 0.01)
    monkeypatch.setattr("inferflux_api.governance.audit.keeper._CHECKPOINT_RECORDS", 10)
    with opened(path) as log:
        for _ in range(10):
            log.received("r", ALICE, "m")
        deadline = time.monotonic() + 10
        while json.loads((path.parent / "audit.jsonl.head").read_bytes())["seq"] < 13:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert events(path)[12] == "checkpoint"
