"""Fetching, copying and deleting models, and what `/api/show` knows."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from inferctl_fakes import PATIENCE, ndjson

PULL, SHOW, COPY, DELETE = "/api/pull", "/api/show", "/api/copy", "/api/delete"
LINES = "application/x-ndjson"
DIGEST = "sha256:" + "ab" * 32
STEPS: list[dict[str, Any]] = [
    {"status": "pulling manifest"},
    {"status": "pulling abababababab", "digest": DIGEST, "total": 2048},
    {"status": "pulling abababababab", "digest": DIGEST, "total": 2048, "completed": 2048},
    {"status": "verifying sha256 digest"},
    {"status": "success"},
]


def test_pull_tells_each_step_once(server, inferctl_child) -> None:
    server.stream(PULL, *ndjson(*STEPS), kind=LINES)

    done = inferctl_child("models", "pull", "llama3.2")

    assert (done.code, done.out) == (0, "llama3.2 pulled\n")
    assert done.err.splitlines() == [
        "pulling manifest",
        "pulling abababababab",
        "verifying sha256 digest",
        "success",
    ]
    assert server.bodies(PULL) == [{"model": "llama3.2", "stream": True}]


def test_pull_as_json(server, inferctl) -> None:
    server.stream(PULL, *ndjson(*STEPS), kind=LINES)

    done = inferctl("models", "pull", "llama3.2", "--json")

    assert (done.lines, done.err) == (STEPS, "")


def test_pull_shows_a_bar_at_a_terminal(server, terminal) -> None:
    half = {**STEPS[1], "completed": 1024}
    shown = threading.Event()
    rest = ndjson(*STEPS[2:])
    server.stream(PULL, *ndjson(STEPS[0], half), shown, *rest, kind=LINES)

    screen = terminal("models", "pull", "llama3.2")
    screen.expect("pulling abababababab")
    screen.expect("1.0/2.0 KiB")
    shown.set()
    screen.expect("llama3.2 pulled")

    assert screen.wait() == 0


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([STEPS[0], {"error": "pull model manifest: file does not exist"}], "file does not exist"),
        (STEPS[:3], "before the answer was complete"),
        ([STEPS[0], ["nonsense"]], "not a JSON object"),
    ],
)
def test_a_pull_that_fails(server, inferctl, steps: list[Any], says: str) -> None:
    server.stream(PULL, *ndjson(*steps), kind=LINES)

    done = inferctl("models", "pull", "nope")

    assert (done.code, done.out) == (1, "")
    assert says in done.err
    assert says in inferctl("models", "pull", "nope", "--json").error["message"]


def test_a_pull_that_is_refused(server, inferctl) -> None:
    server.json(PULL, {"error": "this key lacks the scope 'models:write'"}, 403)

    done = inferctl("models", "pull", "llama3.2")

    assert done.code == 4
    assert "scope `models:write`" in done.err


def test_a_pull_from_what_is_no_such_server(server, inferctl) -> None:
    assert inferctl("models", "pull", "x").err == "error: HTTP 404 from /api/pull\n"
    server.raw(PULL, b"<html>", "text/html")
    assert "answered with text/html" in inferctl("models", "pull", "x").err


def test_a_line_without_end_is_not_kept_in_memory(server, inferctl) -> None:
    server.stream(PULL, *[b"x" * 2**20] * 17, None, kind=LINES)

    done = inferctl("models", "pull", "x")

    assert (done.code, done.out) == (1, "")
    assert "larger than 16,777,216 bytes" in done.err
    assert server.disconnected.wait(PATIENCE)


def test_copy(server, inferctl) -> None:
    server.raw(COPY, b"")

    assert inferctl("models", "cp", "a", "b").out == "a copied to b\n"
    assert server.bodies(COPY) == [{"source": "a", "destination": "b"}]
    (line,) = inferctl("models", "cp", "a", "b", "--json").lines
    assert line == {"model": "b", "source": "a", "status": "copied"}


def test_remove(server, inferctl) -> None:
    server.raw(DELETE, b"")

    assert inferctl("models", "rm", "a", "--yes").out == "a deleted\n"
    assert server.bodies(DELETE, "DELETE") == [{"model": "a"}]
    assert inferctl("models", "rm", "a", "--yes", "--json").lines == [
        {"model": "a", "status": "deleted"}
    ]


@pytest.mark.parametrize("wish", [(), ("--json",)])
def test_nothing_is_removed_unasked(server, inferctl, wish: tuple[str, ...]) -> None:
    done = inferctl("models", "rm", "a", *wish)

    assert (done.code, done.out) == (2, "")
    assert "give --yes" in done.err
    assert server.requests == []


@pytest.mark.parametrize(("reply", "code", "sent"), [("y", 0, [{"model": "a"}]), ("n", 1, [])])
def test_remove_asks_at_a_terminal(
    server, terminal, reply: str, code: int, sent: list[Any]
) -> None:
    server.raw(DELETE, b"")

    screen = terminal("models", "rm", "a")
    screen.expect(f"Delete a from http://127.0.0.1:{server.port}? [y/N]")
    screen.send(f"{reply}\r")

    assert screen.wait() == code
    assert server.bodies(DELETE, "DELETE") == sent


@pytest.mark.parametrize("command", [("cp", "a", "b"), ("rm", "a", "--yes")])
def test_a_model_that_is_not_there(server, inferctl, command: tuple[str, ...]) -> None:
    for path in (COPY, DELETE):
        server.json(path, {"error": "model 'a' not found"}, 404)

    done = inferctl("models", *command)

    assert done.code == 1
    assert "error: model 'a' not found\n" in done.err
    assert "inferctl models list" in done.err


SHOWN = {
    "modelfile": "FROM a",
    "parameters": 'stop                           "<end>"',
    "template": "{{ x }}\n" * 50,
    "details": {"format": "gguf", "family": "llama", "quantization_level": "Q4_K_M"},
    "model_info": {"general.architecture": "llama", "llama.context_length": 2048},
    "capabilities": ["completion", "tools"],
}


def test_show_adds_what_the_file_says(server, inferctl) -> None:
    listed = {"id": "a", "owned_by": "me", "details": {"threads": "2"}}
    server.json("/v1/models/a", listed)
    server.json(SHOW, SHOWN)

    out = inferctl("models", "show", "a").out
    (found,) = inferctl("models", "show", "a", "--json").lines

    assert server.bodies(SHOW)[0] == {"model": "a"}
    for line in (
        "details.threads\t2",
        "about.details.quantization_level\tQ4_K_M",
        "about.capabilities\tcompletion, tools",
        "about.model_info.llama.context_length\t2048",
    ):
        assert f"{line}\n" in out
    assert "... (400 characters; --output json shows all)" in out
    about = {key: value for key, value in SHOWN.items() if key != "modelfile"}
    assert found == {**listed, "about": about}


def test_show_hides_no_failure(server, inferctl) -> None:
    server.json("/v1/models/a", {"id": "a"})
    server.json(SHOW, {"error": "the file is broken"}, 500)

    assert "the file is broken" in inferctl("models", "show", "a").err
