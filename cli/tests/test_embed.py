from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

PATH = "/v1/embeddings"


def vectors(*values: list[float]) -> dict[str, Any]:
    # Backwards: the index counts, not the place.
    data = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(values)]
    return {"object": "list", "data": data[::-1], "model": "m"}


def test_texts(server, inferctl_child) -> None:
    server.json(PATH, vectors([0.5, 0.25, 1 / 3, 0, 1, 2], [-1.0, 0]))

    done = inferctl_child("embed", "a llama", "an alpaca", "--dimensions", "6")

    assert (done.code, done.err) == (0, "")
    assert done.out == "0\t6\t0.5 0.25 0.333333 0 1 ...\n1\t2\t-1 0\n"
    assert server.bodies(PATH) == [
        {
            "input": ["a llama", "an alpaca"],
            "model": "m",
            "encoding_format": "float",
            "dimensions": 6,
        }
    ]


def test_json_is_a_line_for_each(server, inferctl) -> None:
    server.json(PATH, vectors([0.5, 0.25], [1, 2]))

    assert inferctl("embed", "a", "b", "--model", "x", "--output", "json").lines == [
        {"index": 0, "text": "a", "embedding": [0.5, 0.25]},
        {"index": 1, "text": "b", "embedding": [1.0, 2.0]},
    ]


def test_lines_of_a_file_and_of_stdin(server, inferctl, tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_bytes("eins\r\n\nzwei ä\n".encode())
    server.json(PATH, vectors([1], [2]))

    assert inferctl("embed", "--file", str(file)).code == 0
    assert inferctl("embed", stdin="eins\n \nzwei ä").code == 0
    assert [body["input"] for body in server.bodies(PATH)] == [["eins", "zwei ä"]] * 2


def test_many_texts_go_in_several_requests(server, inferctl) -> None:
    server.json(PATH, vectors(*[[1.0]] * 64))
    server.json(PATH, vectors(*[[2.0]] * 6))

    lines = inferctl("embed", "--json", stdin="x\n" * 70).lines

    assert [len(body["input"]) for body in server.bodies(PATH)] == [64, 6]
    assert [line["index"] for line in lines] == list(range(70))
    assert lines[64]["embedding"] == [2.0]


@pytest.mark.parametrize("data", [None, [], [{"index": 0}], [{"index": 0, "embedding": "AAA="}]])
def test_an_answer_without_embeddings(server, inferctl, data: object) -> None:
    server.json(PATH, {"data": data})

    done = inferctl("embed", "a")

    assert (done.code, done.err) == (1, "error: the server's answer holds no embeddings\n")


def test_nothing_to_embed(inferctl) -> None:
    assert "no text" in inferctl("embed", stdin="\n").err
    assert "cannot read /nowhere" in inferctl("embed", "--file", "/nowhere").err
    assert inferctl("embed", "a", "--file", "b").code == 2


def test_a_terminal_is_not_waited_for(terminal) -> None:
    assert terminal("embed").wait() == 2
