from __future__ import annotations

import threading
import time
from typing import Any

import pytest

LLAMA = {"id": "org/llama", "object": "model", "owned_by": "org", "meta": {"n_ctx": 2048}}


def ours(**changes: Any) -> dict[str, Any]:
    """A model as our server describes it."""
    return {
        "id": "smol",
        "object": "model",
        "created": 0,
        "owned_by": "inferflux",
        "backend": "cpu",
        "state": "ready",
        "load": "on_demand",
        "in_use": 0,
        "last_used": time.time() - 65,
        "expires_at": time.time() + 3 * 3600 + 120.5,
        "memory_bytes": 300 * 2**20,
        "adapters": ["style", "tone"],
        "device": "CPU, 2 threads",
        "details": {"kv_cache_type": "bf16", "threads": "2"},
        **changes,
    }


def test_list(server, inferctl_child) -> None:
    adapter = {"id": "style", "owned_by": "me", "parent": "smol"}
    server.json("/v1/models", {"object": "list", "data": [LLAMA, ours(), adapter]})

    done = inferctl_child("models", "list")

    assert done.code == 0
    assert done.out.splitlines() == [
        "org/llama\torg\t-\t-\t-\t-",
        "smol\tinferflux\tready\tcpu\ton_demand\t-",
        "style\tme\t-\t-\t-\tsmol",
    ]


def test_list_as_json_with_the_option_on_any_level(server, inferctl) -> None:
    server.json("/v1/models", {"object": "list", "data": [LLAMA]})

    for command in (
        ("--json", "models", "list"),
        ("models", "--json", "list"),
        ("models", "list", "--json"),
    ):
        assert inferctl(*command).lines == [{"object": "list", "data": [LLAMA]}]


def test_show(server, inferctl) -> None:
    server.json("/v1/models/org/llama", LLAMA)

    done = inferctl("models", "show", "org/llama")

    assert done.code == 0
    assert "owned_by\torg\n" in done.out
    assert "meta.n_ctx\t2048\n" in done.out
    assert inferctl("models", "show", "org/llama", "--json").lines == [LLAMA]


def test_show_is_for_people(server, inferctl) -> None:
    server.json("/v1/models/smol", ours(error="too large"))

    out = inferctl("models", "show", "smol").out

    assert "memory_bytes\t300 MiB\n" in out
    assert "adapters\tstyle, tone\n" in out
    assert "details.kv_cache_type\tbf16\n" in out
    assert "created\t19" in out  # wherever this runs, it is a date around 1970
    assert "error\ttoo large\n" in out


def test_show_an_unknown_one(server, inferctl) -> None:
    server.json("/v1/models", {"data": [LLAMA]})
    server.error("/v1/models/a%20b", 404, "model_not_found", "no model `a b`")

    done = inferctl("models", "show", "a b")

    assert done.code == 1
    assert "available models: org/llama" in done.err


def test_ps_shows_what_is_in_memory(server, inferctl) -> None:
    busy = ours(id="busy", in_use=3, last_used=None, expires_at=None, memory_bytes=5 * 2**30)
    away = [ours(id="b", state="unloaded"), ours(id="c", state="failed")]
    adapter = {"id": "style", "parent": "smol", "state": "ready"}
    server.json("/v1/models", {"data": [ours(), busy, *away, adapter]})

    assert inferctl("models", "ps").out.splitlines() == [
        "smol\tready\t300 MiB\tCPU, 2 threads\t0\t1 min 5 s\t3 h 2 min",
        "busy\tready\t5.0 GiB\tCPU, 2 threads\t3\t-\t-",
    ]
    (listed,) = inferctl("models", "ps", "--json").lines
    assert [model["id"] for model in listed["data"]] == ["smol", "busy"]


def test_load(server, inferctl) -> None:
    server.json("/v1/models/load", ours())

    done = inferctl("models", "load", "smol")

    assert (done.code, done.out) == (0, "smol loaded: 300 MiB on CPU, 2 threads\n")
    assert server.bodies("/v1/models/load") == [{"model": "smol"}]
    assert inferctl("models", "load", "smol", "--json").lines[0]["id"] == "smol"


def test_load_that_fails_says_why(server, inferctl) -> None:
    message = "model 'smol' cannot be loaded: it needs 9 GiB; raise runtime.memory_budget_bytes"
    server.error("/v1/models/load", 503, "engine_unavailable", message)

    done = inferctl("models", "load", "smol")

    assert done.code == 1
    assert done.err == f"error: {message}\n"


@pytest.mark.parametrize("flag", ["drain", "force"])
def test_unload(server, inferctl, flag: str) -> None:
    server.json("/v1/models/unload", ours(state="unloaded"))

    done = inferctl("models", "unload", "smol", f"--{flag}")

    assert (done.code, done.out) == (0, "smol unloaded\n")
    wanted = {"model": "smol", "drain": False, "force": False, flag: True}
    assert server.bodies("/v1/models/unload") == [wanted]


@pytest.mark.parametrize(
    ("command", "hint"),
    [(("models", "unload"), "--drain, or end them with --force"), (("tune",), "models ps")],
)
def test_a_model_in_use_stays(server, inferctl, command: tuple[str, ...], hint: str) -> None:
    server.error(f"/v1/models/{command[-1]}", 409, "model_in_use", "model 'smol' is in use")

    done = inferctl(*command, "smol")

    assert done.code == 1
    assert hint in done.err


def test_changes_need_a_scope_of_their_own(server, inferctl) -> None:
    server.error(
        "/v1/models/load", 403, "insufficient_scope", "this key lacks the scope 'models:write'"
    )

    done = inferctl("models", "load", "smol")

    assert done.code == 4
    assert "scope `models:write`" in done.err


def test_tune_prints_what_was_found(server, inferctl) -> None:
    server.json("/v1/models/tune", ours())

    done = inferctl("tune", "smol")

    assert (done.code, done.out) == (0, "kv_cache_type\tbf16\nthreads\t2\n")
    assert server.bodies("/v1/models/tune") == [{"model": "smol"}]
    assert inferctl("tune", "smol", "--json").lines[0]["details"]["threads"] == "2"


def test_a_terminal_shows_that_it_takes_its_time(server, terminal) -> None:
    answered = threading.Event()
    body = b'{"id": "smol", "details": {"threads": "2"}}'
    server.stream("/v1/models/tune", answered, body)

    screen = terminal("tune", "smol")
    screen.expect("measuring smol")
    answered.set()

    screen.expect("measured and chosen")
    assert screen.wait() == 0
