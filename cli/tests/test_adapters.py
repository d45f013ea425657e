from __future__ import annotations

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
