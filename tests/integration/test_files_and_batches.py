"""Files, batches and moderations over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.servers import RunningServer, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("files")
    config = {
        "files": {"path": str(folder / "kept"), "max_bytes": 150_000, "max_file_bytes": 50_000},
        "guardrails": {"blocklist": ["xyzzy"]},
    }
    with running_server(folder, config) as running:
        yield running
        assert running.stop() == 0, running.log.read_text()


def upload(client: httpx2.Client, content: bytes, **changes: Any) -> httpx2.Response:
    name = changes.pop("name", "in.jsonl")
    data = {"purpose": "batch", **changes}
    return client.post("/v1/files", files={"file": (name, content)}, data=data)


def line(custom_id: str, text: str = "hello", **changes: Any) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 4}
    request = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions"}
    return {**request, "body": body, **changes}


def run(client: httpx2.Client, lines: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """Send a batch, and wait until it has ended."""
    content = b"".join(json.dumps(each).encode() + b"\n" for each in lines)
    file = upload(client, content).json()
    body = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", **fields}
    batch = client.post("/v1/batches", json=body).json()
    deadline = time.monotonic() + 30
    while batch["status"] not in ("completed", "failed", "cancelled", "expired"):
        assert time.monotonic() < deadline, batch
        batch = client.get(f"/v1/batches/{batch['id']}").json()
    return dict(batch)


def answers(client: httpx2.Client, file_id: str) -> dict[str, Any]:
    text = client.get(f"/v1/files/{file_id}/content").text
    return {entry["custom_id"]: entry["response"] for entry in map(json.loads, text.splitlines())}


def test_a_file_comes_back_as_it_was(server: RunningServer) -> None:
    content = bytes(range(256)) * 7
    with server.client() as client:
        file = upload(client, content, name="../../etc/passwd").json()
        listed = client.get("/v1/files", params={"purpose": "batch"}).json()["data"]
        described = client.get(f"/v1/files/{file['id']}").json()
        back = client.get(f"/v1/files/{file['id']}/content").content
        deleted = client.delete(f"/v1/files/{file['id']}").json()
        gone = client.get(f"/v1/files/{file['id']}")

    assert file["bytes"] == len(content)
    assert file["filename"] == "passwd"
    assert described == file
    assert file in listed
    assert back == content
    assert deleted == {"id": file["id"], "object": "file", "deleted": True}
    assert gone.status_code == 404


def test_another_tenant_sees_nothing(server: RunningServer) -> None:
    with server.client() as client, server.client("generate-key") as other:
        file = upload(client, b"secret").json()
        batch = run(client, [line("a")])

        assert other.get("/v1/files").json()["data"] == []
        assert other.get("/v1/batches").json()["data"] == []
        for path in (f"/v1/files/{file['id']}", f"/v1/files/{file['id']}/content"):
            assert other.get(path).status_code == 404
        assert other.delete(f"/v1/files/{file['id']}").status_code == 404
        assert other.get(f"/v1/batches/{batch['id']}").status_code == 404
        body = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions"}
        assert other.post("/v1/batches", json=body).status_code == 404


def test_a_batch_answers_every_line(server: RunningServer) -> None:
    lines = [line(f"n{i}", f"text {i}") for i in range(20)]
    lines.append(line("bad", **{"body": {"messages": []}}))
    lines.append(line("filtered", "xyzzy"))
    with server.client() as client:
        batch = run(client, lines, metadata={"for": "test"})
        good = answers(client, batch["output_file_id"])
        bad = answers(client, batch["error_file_id"])
        alone = client.post("/v1/chat/completions", json={**lines[3]["body"], "temperature": 0})

    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 22, "completed": 20, "failed": 2}
    assert batch["metadata"] == {"for": "test"}
    assert batch["completed_at"] >= batch["in_progress_at"] >= batch["created_at"]
    assert set(good) == {f"n{i}" for i in range(20)}
    assert good["n3"]["status_code"] == 200
    assert good["n3"]["body"]["usage"] == alone.json()["usage"]
    assert {name: response["status_code"] for name, response in bad.items()} == {
        "bad": 400,
        "filtered": 400,
    }
    assert bad["filtered"]["body"]["error"]["code"] == "content_filter"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no requests"),
        ([line("a"), line("a")], "twice"),
        ([line("a", url="/v1/embeddings")], "not a POST"),
        ([{"custom_id": "a"}], "url"),
        ([line("a", body=None) | {"method": "GET"}], "not a POST"),
    ],
)
def test_a_file_that_makes_no_sense_fails_the_batch_and_says_where(
    server: RunningServer, lines: list[dict[str, Any]], message: str
) -> None:
    with server.client() as client:
        batch = run(client, lines)

    assert batch["status"] == "failed"
    assert message in batch["errors"]["data"][0]["message"]


def test_a_batch_can_be_cancelled_and_keeps_its_answers(server: RunningServer) -> None:
    lines = [line("quick"), *(line(f"n{i}", f"[slow] {i}") for i in range(60))]
    for each in lines[1:]:
        each["body"]["max_tokens"] = 60
    content = b"\n".join(json.dumps(each).encode() for each in lines)
    with server.client() as client:
        file = upload(client, content).json()
        body = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions"}
        batch = client.post("/v1/batches", json=body).json()
        while not client.get(f"/v1/batches/{batch['id']}").json()["request_counts"]["completed"]:
            pass
        batch = client.post(f"/v1/batches/{batch['id']}/cancel").json()
        kept = answers(client, batch["output_file_id"])
        again = client.post(f"/v1/batches/{batch['id']}/cancel")

    assert batch["status"] == "cancelled"
    assert 0 < len(kept) < len(lines)
    assert again.status_code == 400


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input_file_id": "file-none", "endpoint": "/v1/chat/completions"}, "file_id"),
        ({"input_file_id": "x", "endpoint": "/v1/models"}, "endpoint"),
        (
            {
                "input_file_id": "x",
                "endpoint": "/v1/completions",
                "completion_window": "soon",
            },
            "completion_window",
        ),
    ],
)
def test_wrong_batches_are_refused(server: RunningServer, body: dict[str, Any], param: str) -> None:
    with server.client() as client:
        response = client.post("/v1/batches", json=body)

    assert response.status_code in (400, 404)
    assert response.json()["error"]["param"] == param


def test_wrong_uploads_are_refused(server: RunningServer) -> None:
    with server.client() as client:
        assert upload(client, b"x" * 50_001).status_code == 413
        assert upload(client, b"x", purpose="fun").status_code == 400
        assert client.post("/v1/files", json={"file": "x"}).status_code == 400
        nothing = client.post("/v1/files", data={"purpose": "batch"}, files={"other": b"x"})
        assert nothing.status_code == 400
        kept = [upload(client, b"y" * 45_000) for _ in range(4)]
        assert kept[0].status_code == 200
        assert kept[-1].status_code == 413, "the folder is full"
        for response in kept:
            if response.status_code == 200:
                client.delete(f"/v1/files/{response.json()['id']}")
        assert upload(client, b"y" * 45_000).status_code == 200
        assert client.get("/v1/files", params={"limit": "0"}).status_code == 400
        assert client.get("/v1/files", params={"after": "nothing"}).status_code == 400


def test_pages_follow_one_another(server: RunningServer) -> None:
    with server.client() as client:
        ids = {upload(client, b"p", name=f"{i}").json()["id"] for i in range(5)}
        seen, after = list[str](), None
        while True:
            query = {"limit": 2, "order": "asc"} | ({"after": after} if after else {})
            found = client.get("/v1/files", params=query).json()
            seen += [entry["id"] for entry in found["data"]]
            after = found["last_id"]
            if not found["has_more"]:
                break

    assert ids <= set(seen)
    assert len(seen) == len(set(seen))


def test_files_outlive_a_restart_and_running_batches_are_said_to_have_failed(
    tmp_path: Path,
) -> None:
    config = {"files": {"path": str(tmp_path / "kept")}}
    with running_server(tmp_path, config) as server, server.client() as client:
        slow = line("a", "[slow]")
        slow["body"]["max_tokens"] = 400
        file = upload(client, json.dumps(slow).encode()).json()
        body = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions"}
        batch = client.post("/v1/batches", json=body).json()
        server.process.kill()
        server.process.wait()
    (tmp_path / "kept" / "file-half.part").write_bytes(b"half")
    with running_server(tmp_path, config) as server, server.client() as client:
        assert client.get(f"/v1/files/{file['id']}").json() == file
        batch = client.get(f"/v1/batches/{batch['id']}").json()

    assert batch["status"] == "failed"
    assert batch["errors"]["data"][0]["code"] == "server_restarted"
    assert not list((tmp_path / "kept").glob("*.part"))


def test_moderation_asks_the_guardrails(server: RunningServer) -> None:
    with server.client() as client:
        body = client.post("/v1/moderations", json={"input": ["all good", "say xyzzy"]}).json()

    assert [result["flagged"] for result in body["results"]] == [False, True]
    assert body["results"][1]["categories"]["guardrail/blocklist"]
    assert not body["results"][1]["categories"]["hate"]


def test_without_guardrails_there_is_nothing_to_ask(tmp_path: Path) -> None:
    with running_server(tmp_path, {}) as server, server.client() as client:
        response = client.post("/v1/moderations", json={"input": "text"})

    assert response.status_code == 400
    assert "guardrails" in response.json()["error"]["message"]
