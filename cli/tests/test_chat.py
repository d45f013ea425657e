from __future__ import annotations

import pytest
from inferctl_fakes import chat_stream

PATH = "/v1/chat/completions"
ANSWER = {
    "object": "chat.completion",
    "choices": [{"message": {"role": "assistant", "content": "Hi!"}, "finish_reason": "stop"}],
}


def test_one_exchange(server, inferctl_child) -> None:
    server.json(PATH, ANSWER)

    done = inferctl_child(
        *("chat", "--system", "Be brief.", "--message", "user:Hello"),
        *("--message", "assistant:Yes?", "--message", "Note: it is 10:30"),
    )

    assert (done.code, done.out, done.err) == (0, "Hi!\n", "")
    assert server.bodies(PATH)[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Note: it is 10:30"},
    ]


def test_streamed(server, inferctl_child) -> None:
    server.stream(PATH, *chat_stream("Hi", " there"))

    done = inferctl_child("chat", "--message", "Hello", "--stream", "--max-tokens", "4")

    assert (done.code, done.out) == (0, "Hi there\n")
    assert server.bodies(PATH)[0]["max_tokens"] == 4


def test_json(server, inferctl) -> None:
    server.json(PATH, ANSWER)

    assert inferctl("chat", "--message", "Hello", "--json").lines == [ANSWER]


@pytest.mark.parametrize("content", [None, 3, ["x"]])
def test_an_answer_without_text_is_an_empty_line_at_most(server, inferctl, content) -> None:
    server.json(PATH, {"choices": [{"message": {"content": content}}]})

    done = inferctl("chat", "--message", "Hello")

    assert (done.code, done.out) == (0, "")


def test_a_terminal_is_safe_from_the_model(server, terminal) -> None:
    server.stream(PATH, *chat_stream("\x1b[2J\x1b]52;c;", "ZXZpbA==\x07\x9b31m\r", "a\tb"))

    screen = terminal("chat", "--message", "Hello", "--stream")

    assert screen.wait() == 0
    assert screen.raw == "[2J]52;c;ZXZpbA==31ma\tb\r\n"


def test_a_pipe_gets_the_answer_as_it_is(server, inferctl_child) -> None:
    server.stream(PATH, *chat_stream("\x1b[31mred\r\n"))

    assert inferctl_child("chat", "--message", "Hello", "--stream").out == "\x1b[31mred\r\n"
