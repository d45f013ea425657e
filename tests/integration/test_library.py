"""Models that come and go, from a registry on this machine: by Ollama's API and by LM Studio's."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.registry import FakeRegistry, running_registry
from support.servers import RunningServer, running_server
from support.tiny_gguf import TEMPLATE, write_gguf

CONFIGURED = "configured"


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeRegistry]:
    with running_registry() as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("library")


@pytest.fixture(scope="module")
def config(folder: Path, registry: FakeRegistry) -> dict[str, Any]:
    write_gguf(folder / "configured.gguf", fill=9)
    return {
        "model": {"path": str(folder / "configured.gguf"), "name": CONFIGURED},
        "runtime": {"backend": "scripted", "max_model_len": 4096},
        "library": {
            "path": str(folder / "library"),
            "registry": registry.url,
            "hugging_face": registry.url,
            "max_blob_bytes": 1_000_000,
        },
        "server": {"max_body_bytes": 4096},
    }


@pytest.fixture(scope="module")
def server(folder: Path, config: dict[str, Any]) -> Iterator[RunningServer]:
    with running_server(folder, config) as running:
        yield running
        assert running.stop() == 0, running.log.read_text()


@pytest.fixture
def tiny(tmp_path: Path, request: pytest.FixtureRequest) -> bytes:
    """A model of which every test has its own bytes."""
    name = request.node.name
    return write_gguf(tmp_path / "tiny.gguf", general__description=name).read_bytes()


def call(server: RunningServer, method: str, path: str, **body: Any) -> httpx2.Response:
    with server.client() as client:
        return client.request(method, path, json=body)


def steps(response: httpx2.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def upload(server: RunningServer, data: bytes, digest: str | None = None) -> httpx2.Response:
    digest = digest or f"sha256:{hashlib.sha256(data).hexdigest()}"
    with server.client() as client:
        return client.post(f"/api/blobs/{digest}", content=data)


def create(server: RunningServer, name: str, data: bytes, **fields: Any) -> None:
    assert upload(server, data).status_code in (200, 201)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    body = {"model": name, "files": {"m.gguf": digest}, "stream": False, **fields}
    response = call(server, "POST", "/api/create", **body)
    assert response.json() == {"status": "success"}, response.text


def names(server: RunningServer) -> set[str]:
    return {entry["name"] for entry in call(server, "GET", "/api/tags").json()["models"]}


def say(server: RunningServer, model: str, text: str, **fields: Any) -> httpx2.Response:
    messages = [{"role": "user", "content": f"[say]{text}[/say]"}]
    return call(server, "POST", "/api/chat", model=model, messages=messages, stream=False, **fields)


def test_a_model_is_pulled_and_answers(
    server: RunningServer, registry: FakeRegistry, tiny: bytes
) -> None:
    digest = registry.add(
        "pulled",
        tiny,
        tag="1b",
        template="{{ .Prompt }}",
        params='{"temperature": 0.1, "stop": ["<end>"]}',
        license="Do what you want.",
        system="Be brief.",
    )
    done = steps(call(server, "POST", "/api/pull", model="pulled:1b"))

    assert done[0] == {"status": "pulling manifest"}
    assert done[-3:] == [
        {"status": s} for s in ("verifying sha256 digest", "writing manifest", "success")
    ]
    (last,) = [s for s in done if s.get("completed") == len(tiny)]
    assert last["digest"] == digest
    assert last["total"] == len(tiny)
    assert "pulled:1b" in names(server)
    assert say(server, "Pulled:1B", "yes").json()["message"]["content"] == "yes"
    shown = call(server, "POST", "/api/show", model="pulled:1b").json()
    assert shown["system"] == "Be brief."
    assert shown["license"] == "Do what you want."
    assert shown["template"] == "{{ .Prompt }}"
    assert shown["parameters"].splitlines()[1] == 'stop                           "<end>"'
    openai = call(server, "GET", "/v1/models").json()["data"]
    assert "pulled:1b" in {model["id"] for model in openai}


def test_a_download_goes_on_where_it_broke_off(
    server: RunningServer, registry: FakeRegistry, tiny: bytes
) -> None:
    registry.add("broken", tiny)
    registry.break_after, registry.breaks = 5000, 2
    assert steps(call(server, "POST", "/api/pull", model="broken"))[-1]["status"] == "success"
    blob = [r for r in registry.requests if r[0].startswith("/v2/library/broken/blobs")]
    assert [ranged for _, ranged in blob] == [None, "bytes=5000-", "bytes=10000-"]


def test_a_download_begins_anew_without_ranges(
    server: RunningServer, registry: FakeRegistry, tiny: bytes
) -> None:
    registry.add("anew", tiny)
    registry.break_after, registry.breaks, registry.ranges = 5000, 1, False
    try:
        assert steps(call(server, "POST", "/api/pull", model="anew"))[-1]["status"] == "success"
    finally:
        registry.ranges = True


def test_a_pull_goes_on_after_it_was_given_up(
    server: RunningServer, registry: FakeRegistry, tiny: bytes
) -> None:
    registry.add("hard", tiny)
    registry.break_after, registry.breaks = 1000, 4
    failed = steps(call(server, "POST", "/api/pull", model="hard"))
    assert "broke off" in failed[-1]["error"] or "cannot be fetched" in failed[-1]["error"]
    assert "hard:latest" not in names(server)
    assert steps(call(server, "POST", "/api/pull", model="hard"))[-1]["status"] == "success"
    assert registry.requests[-1][1] == "bytes=4000-"


def test_what_has_another_digest_is_thrown_away(
    server: RunningServer, registry: FakeRegistry, tiny: bytes, folder: Path
) -> None:
    digest = registry.add("forged", tiny)
    registry.files[f"/v2/library/forged/blobs/{digest}"] = tiny[:-1] + b"x"
    found = steps(call(server, "POST", "/api/pull", model="forged"))
    assert digest in found[-1]["error"]
    assert not list((folder / "library").rglob(f"*{digest.removeprefix('sha256:')}*"))
    assert "forged:latest" not in names(server)


def test_a_file_that_is_no_model_is_not_served(
    server: RunningServer, registry: FakeRegistry, folder: Path
) -> None:
    digest = registry.add("nonsense", b"no model at all")
    found = steps(call(server, "POST", "/api/pull", model="nonsense"))
    assert "GGUF" in found[-1]["error"]
    assert "nonsense:latest" not in names(server)
    assert not (folder / "library/blobs" / digest.replace(":", "-")).exists()


def test_texts_of_a_model_are_checked_like_its_file(
    server: RunningServer, registry: FakeRegistry, tiny: bytes
) -> None:
    registry.add("scrawl", tiny, params="{")
    assert (
        "parameters cannot be read"
        in steps(call(server, "POST", "/api/pull", model="scrawl"))[-1]["error"]
    )
    registry.add("swapped", tiny, system="Be brief.")
    (path,) = [p for p, data in registry.files.items() if "/swapped/" in p and data != tiny]
    registry.files[path] = b"Be rude."
    assert (
        "another digest" in steps(call(server, "POST", "/api/pull", model="swapped"))[-1]["error"]
    )
    registry.files[path] = bytes(9_000_000)
    assert (
        "is longer than" in steps(call(server, "POST", "/api/pull", model="swapped"))[-1]["error"]
    )
    del registry.files[path]
    assert "error" in steps(call(server, "POST", "/api/pull", model="swapped"))[-1]
    assert not names(server) & {"scrawl:latest", "swapped:latest"}


def test_parameters_that_make_no_sense_are_told(
    server: RunningServer, registry: FakeRegistry, tiny: bytes
) -> None:
    registry.add("odd", tiny, params='{"temperature": "hot"}')
    assert steps(call(server, "POST", "/api/pull", model="odd"))[-1] == {"status": "success"}
    refused = say(server, "odd", "x")
    assert refused.status_code == 400
    assert "temperature" in refused.json()["error"]


def test_two_who_pull_the_same_get_it_once(
    server: RunningServer, registry: FakeRegistry, tiny: bytes
) -> None:
    registry.add("both", tiny)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: call(server, "POST", "/api/pull", model="both"), range(2)))
    assert [steps(response)[-1] for response in both] == [{"status": "success"}] * 2


def test_names_of_the_hub_choose_a_file(
    server: RunningServer, registry: FakeRegistry, tiny: bytes, tmp_path: Path
) -> None:
    other = write_gguf(tmp_path / "other.gguf", fill=3).read_bytes()
    files = {"m-Q8_0.gguf": tiny, "m-Q4_K_M.gguf": other}
    registry.add_repository("user/repo-GGUF", files)
    for name in ("hf.co/user/repo-GGUF:q8_0", "hf.co/user/repo-GGUF"):
        done = steps(call(server, "POST", "/api/pull", model=name))
        assert done[-1]["status"] == "success"
        assert say(server, name, "hub").json()["message"]["content"] == "hub"
    missing = call(server, "POST", "/api/pull", model="hf.co/user/repo-GGUF:Q2_K")
    assert missing.status_code == 400
    assert "m-Q4_K_M.gguf" in missing.json()["error"]


def test_a_pull_that_cannot_begin_has_a_status(server: RunningServer) -> None:
    for body in ({"model": "missing"}, {"name": "missing", "stream": False}):
        response = call(server, "POST", "/api/pull", **body)
        assert response.status_code == 400
        assert response.json() == {"error": "model: pull model manifest: file does not exist"}


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a/../../b", "a\\b", "x:..", "x:a/b", ".hidden", "a//b", "a" * 300, ""],
)
def test_names_never_lead_elsewhere(server: RunningServer, name: str, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    for path, body in (
        ("/api/pull", {"model": name}),
        ("/api/create", {"model": name, "from": CONFIGURED}),
        ("/api/copy", {"source": CONFIGURED, "destination": name}),
    ):
        response = call(server, "POST", path, **body)
        assert response.status_code == 400, (path, response.text)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("digest", ["sha256:abc", "sha256-..", "md5:" + "0" * 64, "..%2F..%2Fx"])
def test_digests_never_lead_elsewhere(server: RunningServer, digest: str) -> None:
    with server.client() as client:
        assert client.post(f"/api/blobs/{digest}", content=b"x").status_code in (400, 404)
        assert client.head(f"/api/blobs/{digest}").status_code in (400, 404)


def test_a_blob_is_kept_if_its_digest_is_right(
    server: RunningServer, tiny: bytes, folder: Path
) -> None:
    digest = f"sha256:{hashlib.sha256(tiny).hexdigest()}"
    with server.client() as client:
        assert client.head(f"/api/blobs/{digest}").status_code == 404
        wrong = upload(server, tiny + b"x", digest)
        assert wrong.status_code == 400
        assert digest in wrong.json()["error"]
        assert client.head(f"/api/blobs/{digest}").status_code == 404
        assert upload(server, tiny).status_code == 201
        assert client.head(f"/api/blobs/{digest}").status_code == 200
        assert upload(server, tiny).status_code == 200
    assert upload(server, bytes(1_000_001)).status_code == 413
    assert not [path for path in (folder / "library").rglob("*.part") if path.stat().st_size]


def test_a_model_is_created_from_a_file(server: RunningServer, tiny: bytes) -> None:
    create(
        server,
        "Mine:v1",
        tiny,
        system="[say]from the system[/say]",
        parameters={"num_predict": 4, "stop": "zz"},
        license=["one", "two"],
        messages=[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}],
    )
    shown = call(server, "POST", "/api/show", name="mine:V1").json()
    assert shown["details"]["family"] == "llama"
    assert shown["details"]["quantization_level"] == "Q8_0"
    assert shown["details"]["parameter_size"] == "3.2K"
    assert shown["model_info"]["llama.context_length"] == 2048
    assert shown["model_info"]["general.parameter_count"] == 3200
    assert shown["model_info"]["tokenizer.ggml.tokens"] is None
    assert shown["template"] == TEMPLATE
    assert shown["license"] == "one\ntwo"
    assert shown["messages"][1] == {"role": "assistant", "content": "ho"}
    assert shown["modelfile"].startswith("# Modelfile\nFROM Mine:v1\n")
    (entry,) = [
        m for m in call(server, "GET", "/api/tags").json()["models"] if m["name"] == "Mine:v1"
    ]
    assert entry["size"] == len(tiny)
    assert len(entry["digest"]) == 64

    # What it was created with counts where the request says nothing.
    messages = [{"role": "user", "content": "x"}]
    answer = call(server, "POST", "/api/chat", model="mine:v1", messages=messages, stream=False)
    assert answer.json()["message"]["content"] == "from"
    assert answer.json()["done_reason"] == "length"
    generated = call(server, "POST", "/api/generate", model="mine:v1", prompt="x", stream=False)
    assert generated.json()["response"] == "from"
    other = say(server, "mine:v1", "longer", options={"num_predict": 6})
    assert other.json()["eval_count"] == 6


def test_a_template_in_jinja_takes_the_place_of_the_files_own(
    server: RunningServer, tiny: bytes
) -> None:
    create(server, "templated", tiny, template="[say]{{ messages[0].content }}[/say]")
    body = {"model": "templated", "messages": [{"role": "user", "content": "echo"}]}
    answer = call(server, "POST", "/api/chat", stream=False, **body)
    assert answer.json()["message"]["content"] == "echo"


def test_a_model_is_created_from_another(server: RunningServer, tiny: bytes) -> None:
    create(server, "base", tiny, system="old", parameters={"top_k": 5})
    done = steps(
        call(server, "POST", "/api/create", model="derived", **{"from": "base"}, system="new")
    )
    assert done[-1] == {"status": "success"}
    shown = call(server, "POST", "/api/show", model="derived").json()
    assert shown["system"] == "new"
    assert shown["parameters"].split() == ["top_k", "5"]
    again = steps(call(server, "POST", "/api/create", model="DERIVED", **{"from": "base"}))
    assert again[-1] == {"status": "success"}
    assert {n for n in names(server) if n.lower() == "derived:latest"} == {"DERIVED:latest"}


def test_a_configured_model_can_be_copied_but_not_touched(
    server: RunningServer, folder: Path
) -> None:
    body = {"source": CONFIGURED, "destination": "mycopy"}
    assert call(server, "POST", "/api/copy", **body).status_code == 200
    assert say(server, "mycopy", "copied").json()["message"]["content"] == "copied"
    for method, path, other in (
        ("POST", "/api/copy", {"source": "mycopy", "destination": CONFIGURED}),
        ("POST", "/api/pull", {"model": CONFIGURED.upper()}),
        ("POST", "/api/create", {"model": CONFIGURED, "from": "mycopy"}),
        ("DELETE", "/api/delete", {"model": CONFIGURED}),
    ):
        refused = call(server, method, path, **other)
        assert refused.status_code == 400, path
        assert "configuration" in refused.json()["error"]
    assert (folder / "configured.gguf").is_file()


def test_a_deleted_model_is_gone_with_its_file(
    server: RunningServer, tiny: bytes, folder: Path
) -> None:
    create(server, "first", tiny)
    assert call(server, "POST", "/api/copy", source="first", destination="second").is_success
    assert say(server, "first", "here").is_success
    blob = folder / "library/blobs" / f"sha256-{hashlib.sha256(tiny).hexdigest()}"
    assert call(server, "DELETE", "/api/delete", model="first").status_code == 200
    assert blob.is_file()
    assert say(server, "first", "gone").status_code == 404
    assert say(server, "second", "here").is_success
    assert call(server, "DELETE", "/api/delete", model="second").status_code == 200
    assert not blob.exists()
    missing = call(server, "DELETE", "/api/delete", model="second")
    assert missing.status_code == 404
    assert missing.json() == {"error": "model 'second' not found"}


def test_a_stream_is_finished_before_its_model_is_deleted(
    server: RunningServer, tiny: bytes
) -> None:
    create(server, "busy", tiny)
    body = {"model": "busy", "messages": [{"role": "user", "content": "[slow] x"}]}
    with (
        server.client() as client,
        ThreadPoolExecutor(1) as pool,
        client.stream("POST", "/api/chat", json=body | {"options": {"num_predict": 40}}) as stream,
    ):
        lines = stream.iter_lines()
        next(lines)
        deleted = pool.submit(call, server, "DELETE", "/api/delete", model="busy")
        last = json.loads(list(lines)[-1])
        assert deleted.result(20).status_code == 200
    assert last["done"] is True
    assert last["eval_count"] == 40
    assert say(server, "busy", "x").status_code == 404


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "neither 'from' or 'files'"),
        ({"from": CONFIGURED, "adapters": {"a": "sha256:" + "0" * 64}}, "upload it first"),
        ({"files": {"model.safetensors": "sha256:" + "0" * 64}}, "upload it first"),
        ({"files": {"../model.safetensors": "sha256:" + "0" * 64}}, "no name of a file"),
        ({"files": {"a.gguf": "x", "b.gguf": "y"}}, "one GGUF file"),
        ({"files": {"m.gguf": "sha256:" + "0" * 64}}, "upload it first"),
        ({"files": {"m.gguf": "nonsense"}}, "sha256"),
        ({"from": CONFIGURED, "files": {"m.gguf": "x"}}, "choose one"),
        ({"from": CONFIGURED, "template": "{{ .Prompt }}"}, "Jinja"),
        ({"from": CONFIGURED, "parameters": {"temperature": "hot"}}, "parameters"),
        ({"from": CONFIGURED, "messages": [{"role": "boss", "content": "x"}]}, "role"),
    ],
)
def test_what_cannot_be_created_is_refused(
    server: RunningServer, fields: dict[str, Any], problem: str
) -> None:
    for streams in (True, False):
        refused = call(server, "POST", "/api/create", model="never", stream=streams, **fields)
        assert refused.status_code == 400, refused.text
        assert problem in refused.json()["error"]
    assert "never:latest" not in names(server)


def test_a_model_is_quantized(server: RunningServer, tiny: bytes, folder: Path) -> None:
    create(server, "whole", tiny)
    body = {"from": "whole", "quantize": "Q8_0"}
    done = steps(call(server, "POST", "/api/create", model="smaller", **body))
    assert {"status": "quantizing model to Q8_0", "total": 100, "completed": 50} in done
    assert done[-1] == {"status": "success"}
    assert say(server, "smaller", "here").json()["message"]["content"] == "here"
    sizes = {m["name"]: m["size"] for m in call(server, "GET", "/api/tags").json()["models"]}
    assert sizes["smaller:latest"] == sizes["whole:latest"] + len(" as Q8_0")
    create(server, "only", tiny + b"x", quantize="Q4_0")
    assert not (folder / f"library/blobs/sha256-{hashlib.sha256(tiny + b'x').hexdigest()}").exists()


def test_a_model_is_made_of_safetensors(server: RunningServer, tiny: bytes, folder: Path) -> None:
    assert upload(server, tiny).status_code == 201
    assert upload(server, b"{}").status_code == 201
    files = {
        name: f"sha256:{hashlib.sha256(data).hexdigest()}"
        for name, data in (("model.safetensors", tiny), ("config.json", b"{}"))
    }
    done = steps(call(server, "POST", "/api/create", model="converted", files=files))
    assert {"status": "converting model", "total": 100, "completed": 50} in done
    assert done[-1] == {"status": "success"}
    assert say(server, "converted", "here").json()["message"]["content"] == "here"
    blobs = [path.name for path in (folder / "library/blobs").iterdir()]
    assert not [name for name in blobs if name.startswith("making-")]
    assert not [d for d in files.values() if d.replace(":", "-") in blobs]


def test_a_file_that_cannot_be_made_leaves_nothing(server: RunningServer, folder: Path) -> None:
    for content, problem in ((b"bad", "this is bad"), (b"crash", "status -6")):
        assert upload(server, content).status_code == 201
        files = {"model.safetensors": f"sha256:{hashlib.sha256(content).hexdigest()}"}
        found = steps(call(server, "POST", "/api/create", model="never", files=files))
        assert problem in found[-1]["error"]
    assert "never:latest" not in names(server)
    assert not list((folder / "library/blobs").glob("making-*"))


def test_an_adapter_becomes_part_of_a_model(server: RunningServer, tiny: bytes) -> None:
    create(server, "plain", tiny)
    assert upload(server, b"no adapter").status_code in (200, 201)
    for content, problem in ((b"no adapter", "not a GGUF file"), (tiny, "holds no adapter")):
        adapters = {"a.gguf": f"sha256:{hashlib.sha256(content).hexdigest()}"}
        body = {"model": "never", "from": "plain", "adapters": adapters}
        refused = call(server, "POST", "/api/create", stream=False, **body)
        assert refused.status_code == 400
        assert problem in refused.json()["error"]


def test_an_unknown_base_is_not_found(server: RunningServer) -> None:
    response = call(server, "POST", "/api/create", model="x", **{"from": "missing"})
    assert response.status_code == 404


def test_nothing_is_pushed(server: RunningServer) -> None:
    response = call(server, "POST", "/api/push", model=CONFIGURED)
    assert response.status_code == 400
    assert "not pushed" in response.json()["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/pull"),
        ("POST", "/api/create"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/push"),
        ("POST", "/api/blobs/sha256:" + "0" * 64),
        ("HEAD", "/api/blobs/sha256:" + "0" * 64),
    ],
)
def test_only_administrators_change_the_library(
    server: RunningServer, method: str, path: str
) -> None:
    for key in ("generate-key", "read-key"):
        with server.client(key) as client:
            assert client.request(method, path).status_code == 403


def finished(server: RunningServer, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while True:
        job = call(server, "GET", f"/api/v1/models/download/status/{job_id}").json()
        if job["status"] != "downloading":
            return dict(job)
        assert time.monotonic() < deadline, job
        time.sleep(0.02)


def test_lm_studio_downloads_a_model(
    server: RunningServer, registry: FakeRegistry, tiny: bytes
) -> None:
    registry.add_repository("maker/small-GGUF", {"small-Q8_0.gguf": tiny})
    body = {"model": "https://huggingface.co/maker/small-GGUF", "quantization": "Q8_0"}
    begun = call(server, "POST", "/api/v1/models/download", **body).json()
    assert begun["total_size_bytes"] == len(tiny)
    job = finished(server, begun["job_id"])
    assert job["status"] == "completed"
    assert job["downloaded_bytes"] == len(tiny)
    assert job["started_at"] < job["completed_at"]
    again = call(server, "POST", "/api/v1/models/download", **body).json()
    assert again == {"status": "already_downloaded", "total_size_bytes": len(tiny)}
    models = call(server, "GET", "/api/v1/models").json()["models"]
    (model,) = [m for m in models if m["key"] == "hf.co/maker/small-GGUF:Q8_0"]
    assert model["architecture"] == "llama"
    assert model["quantization"] == {"name": "Q8_0", "bits_per_weight": 8}
    assert model["params_string"] == "3.2K"
    assert model["max_context_length"] == 2048


def test_a_download_of_lm_studios_can_fail(
    server: RunningServer, registry: FakeRegistry, tiny: bytes
) -> None:
    missing = call(server, "POST", "/api/v1/models/download", model="maker/missing")
    assert missing.status_code == 400
    assert missing.json()["error"]["type"] == "invalid_request"
    digest = registry.add("rotten", tiny)
    registry.files[f"/v2/library/rotten/blobs/{digest}"] = bytes(len(tiny))
    begun = call(server, "POST", "/api/v1/models/download", model="rotten").json()
    assert finished(server, begun["job_id"])["status"] == "failed"


def test_the_library_is_there_after_a_restart(
    tmp_path: Path, config: dict[str, Any], tiny: bytes
) -> None:
    own = config | {"library": {"path": str(tmp_path / "library")}}
    with running_server(tmp_path, own) as server:
        create(server, "kept", tiny, system="[say]still here[/say]")
    manifest = tmp_path / "library/manifests/kept.json"
    manifest.with_name("damaged.json").write_text("{")
    manifest.with_name("other.json").write_bytes(manifest.read_bytes())
    with running_server(tmp_path, own) as server:
        assert names(server) == {"configured:latest", "kept:latest"}
        body = {"model": "kept", "prompt": "x", "stream": False}
        assert call(server, "POST", "/api/generate", **body).json()["response"] == "still here"
        assert server.stop() == 0


def test_without_a_library_nothing_is_kept(tmp_path: Path, config: dict[str, Any]) -> None:
    with running_server(tmp_path, config | {"library": {}}) as server:
        for path in ("/api/pull", "/api/create"):
            response = call(server, "POST", path, model="x", **{"from": CONFIGURED})
            assert response.status_code == 404
            assert "library.path" in response.json()["error"]
        assert names(server) == {"configured:latest"}
