from __future__ import annotations

import json
from pathlib import Path

import pytest

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
BASE = {"id": "m", "owned_by": "me"}
STYLE = {"id": "style", "owned_by": "me", "parent": "m", "root": "style-v2"}


def test_list_shows_adapters_only(server, inferctl) -> None:
    server.json("/v1/models", {"object": "list", "data": [BASE, STYLE]})

    assert inferctl("adapters", "list").out == "style\tm\tstyle-v2\n"
    (listed,) = inferctl("adapters", "list", "--json").lines
    assert listed == {"object": "list", "data": [STYLE]}


def test_load_and_unload(server, inferctl) -> None:
    server.raw(LOAD, b"Success: LoRA adapter 'style' added successfully.")
    server.raw(UNLOAD, b"Success: LoRA adapter 'style' removed successfully.")

    loaded = inferctl("adapters", "load", "style", "s.gguf", "--replace", "--model", "m")
    unloaded = inferctl("adapters", "unload", "style", "--json")

    assert (loaded.code, loaded.out) == (0, "style loaded\n")
    assert unloaded.lines == [{"adapter": "style", "status": "unloaded"}]
    (body,) = server.bodies(LOAD)
    assert body == {
        "lora_name": "style",
        "lora_path": "s.gguf",
        "load_inplace": True,
        "base_model_name": "m",
    }
    assert server.bodies(UNLOAD) == [{"lora_name": "style"}]


@pytest.mark.parametrize(
    ("command", "status", "error", "hint"),
    [
        ("load", 400, {"message": "'style' has already been loaded"}, "--replace"),
        ("load", 400, {"message": "which?", "param": "base_model_name"}, "--model"),
        ("load", 404, {"message": "no file", "param": "lora_path"}, "looked up on the server"),
        ("load", 403, {"message": "no"}, "scope `adapters:write`"),
        ("unload", 404, {"message": "none", "param": "lora_name"}, "inferctl adapters list"),
    ],
)
def test_errors_say_what_to_do(server, inferctl, command, status, error, hint) -> None:
    server.json(LOAD if command == "load" else UNLOAD, {"error": error}, status)
    done = inferctl("adapters", command, "style", *(["s.gguf"] if command == "load" else []))
    assert done.code != 0
    assert error["message"] in done.err
    assert hint in done.err


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (
            ("keygen", "--out", "k2", "--previous", "k", "--json"),
            ["keygen", "--out=k2", "--previous=k", "--json"],
        ),
        (
            ("encrypt", "--key-file", "k", "--out", "o", "--name", "n", "--", "-a"),
            ["encrypt", "--key-file=k", "--out=o", "--name=n", "./-a"],
        ),
        (
            ("reencrypt", "a", "--key-file", "k", "--out", "b"),
            ["reencrypt", "--key-file=k", "--out=b", "a"],
        ),
        (("reencrypt", "a", "--key-file", "k"), None),
    ],
)
def test_files_are_encrypted_by_the_servers_own_module(
    tmp_path: Path, inferctl_child, command: tuple[str, ...], arguments: list[str] | None
) -> None:
    package = tmp_path / "inferflux_core"
    (package / "encrypted_adapters").mkdir(parents=True)
    for folder in (package, package / "encrypted_adapters"):
        (folder / "__init__.py").touch()
    script = "import json, sys\nprint(json.dumps(sys.argv[1:]))\nsys.exit(2)\n"
    (package / "encrypted_adapters" / "__main__.py").write_text(script)

    done = inferctl_child("adapters", *command, PYTHONPATH=str(tmp_path))

    if arguments is None:
        assert (done.code, done.out) == (2, "")
    else:
        assert (done.code, json.loads(done.out)) == (2, arguments)
