"""Whatever our OpenAPI description allows, and what it does not, is answered without a failure.

Each operation gets `SCHEMATHESIS_EXAMPLES` requests of each kind; with 200 that takes some minutes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, Config, GenerationMode
from support.error_shapes import assert_refusal
from support.openapi import add_undescribed, know, only_good_values
from support.servers import RunningServer, running_server

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "8"))
SECONDS = 20
MODEL = "scripted"
MODEL_FIELDS = ("model", "base_model_name", "instance_id", "model_id")
KINDS = {
    "as described": GenerationMode.POSITIVE,
    "against the description": GenerationMode.NEGATIVE,
    "of good values": GenerationMode.POSITIVE,
}
BATCH_LINE = (
    b'{"custom_id": "1", "method": "POST", "url": "/v1/completions", "body": {"prompt": "x"}}'
)


class EmptyRegistry(BaseHTTPRequestHandler):
    """Has no models."""

    def do_GET(self) -> None:
        self.send_error(404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), EmptyRegistry) as served:
        thread = Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, registry: str) -> Iterator[RunningServer]:
    """With a short context, so that an answer without a limit ends soon."""
    folder = tmp_path_factory.mktemp("schema")
    config = {
        "runtime": {"backend": MODEL, "max_model_len": 160},
        "library": {
            "path": str(folder / "library"),
            "registry": registry,
            "hugging_face": registry,
        },
    }
    with running_server(folder, config) as running:
        yield running
        assert running.stop() == 0, running.log.read_text()
        log = running.log.read_text()
        assert "Traceback" not in log, log[log.index("Traceback") :][:5000]


@pytest.fixture(scope="module")
def session(server: RunningServer) -> Iterator[requests.Session]:
    with requests.Session() as client:
        client.headers["authorization"] = "Bearer all-key"
        yield client


@pytest.fixture(scope="module")
def document(server: RunningServer, session: requests.Session) -> dict[str, Any]:
    described: dict[str, Any] = session.get(f"{server.url}/openapi.json").json()
    add_undescribed(described)
    return described


def existing(server: RunningServer, session: requests.Session) -> dict[str, list[Any]]:
    """Names of things that are there."""

    def made(path: str, **given: Any) -> str:
        answer = session.post(server.url + path, timeout=SECONDS, **given)
        assert answer.status_code == 200, answer.text
        name: str = answer.json()["id"]
        return name

    file = made("/v1/files", data={"purpose": "batch"}, files={"file": ("in", BATCH_LINE)})
    batch = {"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h"}
    response = {"input": "x", "max_output_tokens": 1, "background": True}
    return {
        "file_id": [file],
        "input_file_id": [file],
        "batch_id": [made("/v1/batches", json=batch)],
        "response_id": [made("/v1/responses", json=response)],
        "order": ["asc", "desc"],
        "limit": [1, 5, 100],
        "starting_after": [0, 1],
    }


def operations(document: dict[str, Any]) -> Iterator[APIOperation]:
    schema = schemathesis.openapi.from_dict(document, config=Config(seed=1))
    found = [operation.ok() for operation in schema.get_all_operations()]
    # What deletes things comes last.
    return iter(sorted(found, key=lambda operation: operation.method.lower() == "delete"))


def attempt(operation: APIOperation, mode: GenerationMode, send: Callable[[Case], None]) -> None:
    """Send requests for an operation, the same ones in every run."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def send_all(case: Case) -> None:
        send(case)

    try:
        send_all()
    except Unsatisfiable:
        # There is nothing to do wrong with an operation that takes no input.
        assert mode is GenerationMode.NEGATIVE, operation.label


def try_all(
    server: RunningServer,
    session: requests.Session,
    described: dict[str, Any],
    subtests: pytest.Subtests,
    kind: str,
) -> Counter[tuple[str, int]]:
    """Send requests for all operations; returns how often each was answered with which status."""
    answers: Counter[tuple[str, int]] = Counter()

    def send(case: Case) -> None:
        answer = case.call(base_url=server.url, session=session, timeout=SECONDS)
        answers[case.operation.label, answer.status_code] += 1
        assert answer.status_code < 500, (case.as_curl_command(), answer.text)
        if answer.status_code >= 400:
            kind_of_body = answer.headers.get("content-type", [""])[0]
            assert_refusal(case.operation.path, kind_of_body, answer.content)

    for operation in operations(described):
        with subtests.test(operation.label):
            attempt(operation, KINDS[kind], send)
    print_summary(kind, answers)
    return answers


def only(document: dict[str, Any], *, admin: bool) -> dict[str, Any]:
    """The operations of administrators, or the others: what they change would get in the way of all else."""
    paths = {p: o for p, o in document["paths"].items() if p.startswith("/v1/admin/") == admin}
    return {**deepcopy(document), "paths": deepcopy(paths)}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_no_request_makes_the_server_fail(
    server: RunningServer,
    session: requests.Session,
    document: dict[str, Any],
    subtests: pytest.Subtests,
    kind: str,
) -> None:
    described = only(document, admin=False)
    know(described, {field: [MODEL] for field in MODEL_FIELDS})
    if kind == "of good values":
        know(described, existing(server, session))
        only_good_values(described)
    answers = try_all(server, session, described, subtests, kind)
    if kind == "of good values":
        good = sum(count for (_, status), count in answers.items() if status < 300)
        assert good > 0.6 * answers.total(), answers


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_no_administrator_makes_the_server_fail(
    tmp_path: Path, document: dict[str, Any], subtests: pytest.Subtests, kind: str
) -> None:
    described = only(document, admin=True)
    with running_server(tmp_path, {}) as server, requests.Session() as session:
        session.headers["authorization"] = "Bearer all-key"
        answers = try_all(server, session, described, subtests, kind)
        # Whatever was set, whoever could administer still can.
        assert session.get(f"{server.url}/v1/admin/policy", timeout=SECONDS).status_code == 200
    assert {status for _, status in answers} >= {200, 400} if kind == "of good values" else {400}


def print_summary(kind: str, answers: Counter[tuple[str, int]]) -> None:
    by_status: Counter[int] = Counter()
    for (_, status), count in answers.items():
        by_status[status] += count
    num_operations = len({operation for operation, _ in answers})
    print(f"{answers.total()} requests {kind} for {num_operations} operations: {dict(by_status)}")
    if "SCHEMATHESIS_DETAILS" in os.environ:
        for (operation, status), count in sorted(answers.items()):
            print(f"  {operation}: {count} x {status}")
