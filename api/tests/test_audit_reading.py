"""`tail` and `search` over all files of a log, while it grows; and what the configuration refuses."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from inferflux_api.governance.audit import AuditLog
from inferflux_api.governance.audit.__main__ import main
from inferflux_api.governance.audit.files import rotated_files
from inferflux_api.governance.audit.reading import follow
from inferflux_api.observability.metrics import Metrics
from inferflux_core.auth import Principal
from inferflux_core.config import load_config
from inferflux_core.config.schema import AuditConfig
from inferflux_core.errors import ConfigError

NAMES = ("alice", "bob")


def start(path: Path) -> AuditLog:
    return AuditLog(AuditConfig(path=str(path), max_file_bytes=4096), Metrics(lambda: ()))


def write(log: AuditLog, number: int) -> None:
    for index in range(number):
        name = NAMES[index % 2]
        log.received(f"r{index}", Principal(name, frozenset(), tenant=f"of-{name}"), f"m{index}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    log = start(tmp_path / "audit.jsonl")
    write(log, 40)
    log.close()
    assert len(rotated_files(tmp_path / "audit.jsonl")) == 2
    return tmp_path / "audit.jsonl"


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main([*arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_tail_reaches_over_files(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = found(capsys, "tail", str(path), "-n", "30")
    assert len(last) == 30
    assert [r["seq"] for r in last] == list(range(last[-1]["seq"] - 29, last[-1]["seq"] + 1))
    assert last[-1]["event"] == "checkpoint"
    assert len(found(capsys, "tail", str(path), "-n", "1000")) == last[-1]["seq"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["--subject", "alice"], 20),
        (["--tenant", "of-bob"], 20),
        (["--subject", "alice", "--tenant", "of-bob"], 0),
        (["--model", "m7"], 1),
        (["--event", "stopped"], 1),
        (["--event", "received", "--since", "1h"], 40),
        (["--event", "received", "--until", "1h"], 0),
        (["--event", "received", "--since", "2020-01-01", "--until", "2020-01-02T00:00Z"], 0),
        (["--event", "received", "--until", datetime.now(UTC).isoformat()], 0),
    ],
)
def test_search(
    path: Path, capsys: pytest.CaptureFixture[str], wanted: list[str], expected: int
) -> None:
    assert len(found(capsys, "search", str(path), *wanted)) == expected


@pytest.mark.parametrize("arguments", [["--since", "yesterday"], ["--since", "1w"]])
def test_a_time_that_makes_no_sense(path: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["search", str(path), *arguments])
    assert caught.value.code == 2


def test_text_is_for_people_and_cannot_lie_to_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = start(tmp_path / "audit.jsonl")
    log.received("r1", Principal("eve outcome=ok \x1b[2J\n", frozenset()), "m")
    log.close()
    assert main(["search", str(tmp_path / "audit.jsonl"), "--event", "received"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(
        "received request_id=r1 subject='eve outcome=ok \\x1b[2J\\n' tenant=default model=m"
    )


def test_a_log_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tail", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err


def test_follow_goes_on_over_new_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inferflux_api.governance.audit.reading._POLL_SECONDS", 0.001)
    path = tmp_path / "audit.jsonl"
    log = start(path)
    following = follow(path, seq=0)
    seen = [next(following).record.seq]
    for number in (6, 60, 7):
        write(log, number)
        seen += [next(following).record.seq for _ in range(number)]
    assert len(rotated_files(path)) >= 3
    assert seen == list(range(1, len(seen) + 1))
    log.close()


SINK = {"type": "syslog", "url": "udp://127.0.0.1:514"}


@pytest.mark.parametrize(
    ("audit", "said"),
    [
        ({"strict": False}, "audit.strict: would have no effect"),
        ({"sinks": [SINK]}, "audit.sinks: would have no effect"),
        ({"path": "a", "prompts": "redacted"}, "audit.prompts: without guardrails"),
        ({"path": "a", "fsync": "sometimes"}, "audit.fsync: invalid enum value"),
        ({"path": "a", "max_file_bytes": 10}, "audit.max_file_bytes: expected"),
        ({"path": "a", "sinks": [SINK | {"url": "http://h"}]}, r"audit.sinks\[0\].url: begins"),
        ({"path": "a", "sinks": [SINK | {"type": "otlp"}]}, r"audit.sinks\[0\].url: begins"),
        ({"path": "a", "sinks": [SINK | {"headers": {"a": "b"}}]}, r"audit.sinks\[0\].headers"),
    ],
)
def test_what_would_be_ignored_is_refused(tmp_path: Path, audit: dict[str, Any], said: str) -> None:
    file = tmp_path / "server.yaml"
    file.write_text(yaml.safe_dump({"audit": audit, "policy_store": None}))
    with pytest.raises(ConfigError, match=said):
        load_config(file, {}, [])


def test_a_whole_section(tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    sink = {"type": "webhook", "url": "https://h/x", "headers": {"Authorization": "${env:TOKEN}"}}
    audit = {"path": "a", "prompts": "redacted", "fsync": "always", "sinks": [sink]}
    file.write_text(yaml.safe_dump({"audit": audit, "guardrails": {"blocklist": ["x"]}}))
    config = load_config(file, {"TOKEN": "such-a-secret"}, [])
    assert config.audit.sinks[0].headers == {"Authorization": "such-a-secret"}
    assert "such-a-secret" not in repr(config)
