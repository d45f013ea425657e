"""A conversation at a terminal."""

from __future__ import annotations

import json
import stat
import tempfile
from pathlib import Path

import pytest
from inferctl_fakes import PATIENCE, chat_chunk, chat_stream, sse

PATH = "/v1/chat/completions"
CTRL_C, CTRL_D, ALT_ENTER, UP = "\x03", "\x04", "\x1b\r", "\x1b[A"


@pytest.fixture
def chat(terminal):
    screen = terminal("chat", "--interactive")
    banner = screen.expect("you>")
    assert "Alt-Enter" in banner
    assert "Ctrl-C stops an answer" in banner
    return screen


def test_talks_and_leaves_with_ctrl_d(server, chat) -> None:
    server.stream(PATH, *chat_stream("Hi", " Ada"))

    chat.send("I am Ada.\r")
    chat.expect("Hi Ada")
    chat.expect("you>")
    chat.send(CTRL_D)

    assert chat.wait() == 0


def test_ctrl_c_stops_the_answer_and_not_the_chat(server, chat, tmp_path: Path) -> None:
    server.stream(PATH, sse(chat_chunk("so far")), None)
    server.stream(PATH, *chat_stream("second answer"))
    file = tmp_path / "chat.json"

    chat.send("one\r")
    chat.expect("so far")
    chat.send(CTRL_C)
    chat.expect("[stopped; the part above is kept]")
    assert server.disconnected.wait(PATIENCE)
    chat.expect("you>")
    chat.send("two\r")
    chat.expect("second answer")
    chat.expect("you>")
    chat.send(f"/save {file}\r")
    chat.expect("saved to")
    chat.expect("you>")
    chat.send("/exit\r")

    assert chat.wait() == 0
    assert json.loads(file.read_text())["messages"] == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "so far", "interrupted": True},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "second answer"},
    ]


def test_ctrl_c_before_the_first_word_takes_the_message_back(server, chat) -> None:
    server.stream(PATH, None)
    server.stream(PATH, *chat_stream("answer"))

    chat.send("one\r")
    assert server.asked.wait(PATIENCE)
    chat.send(CTRL_C)
    chat.expect("your message was taken back")
    chat.expect("you>")
    chat.send("two\r")
    chat.expect("answer")

    assert [m["content"] for m in server.bodies(PATH)[1]["messages"]] == ["two"]


def test_ctrl_c_at_the_prompt_drops_the_line(server, chat) -> None:
    server.stream(PATH, *chat_stream("ok"))

    chat.send("forget this")
    chat.expect("forget this")
    chat.send(CTRL_C)
    chat.expect("you>")
    chat.send("send this\r")
    chat.expect("ok")

    assert [b["messages"][-1]["content"] for b in server.bodies(PATH)] == ["send this"]


def test_several_lines(server, chat) -> None:
    server.stream(PATH, *chat_stream("ok"))

    chat.send(f"one{ALT_ENTER}two\\\rthree\r")
    chat.expect("ok")

    assert server.bodies(PATH)[0]["messages"][0]["content"] == "one\ntwo\nthree"


def test_a_failed_turn_is_reported_and_the_chat_goes_on(server, chat) -> None:
    server.error(PATH, 429, "rate_limit_exceeded", "slow down", Retry_After="3")
    server.stream(PATH, *chat_stream("better"))

    chat.send("one\r")
    chat.expect("error: slow down")
    chat.expect("retry after 3 s")
    chat.expect("you>")
    chat.send("two\r")
    chat.expect("better")

    assert [m["content"] for m in server.bodies(PATH)[1]["messages"]] == ["two"]


def test_the_history_is_private_and_comes_back(server, chat, terminal, home: Path) -> None:
    server.stream(PATH, *chat_stream("ok"))
    chat.send("remember me\r")
    chat.expect("ok")
    chat.expect("you>")
    chat.send(CTRL_D)
    assert chat.wait() == 0

    directory = home / "state" / "inferctl"
    assert stat.S_IMODE((directory / "history").stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    again = terminal("chat", "--interactive")
    again.expect("you>")
    again.send(UP)
    again.expect("remember me")


def test_without_a_place_for_the_history_it_still_talks(server, terminal, home: Path) -> None:
    (home / "state").write_text("a file where a directory should be")
    server.stream(PATH, *chat_stream("ok"))

    screen = terminal("chat", "--interactive")
    screen.expect("no input history")
    screen.expect("you>")
    screen.send("one\r")
    screen.expect("ok")


def test_answers_can_go_to_a_file_while_the_prompt_stays(server, terminal) -> None:
    server.stream(PATH, *chat_stream("only the answer"))
    with tempfile.TemporaryFile() as file:
        screen = terminal("chat", "--interactive", stdout=file.fileno())
        screen.expect("you>")
        screen.send("one\r")
        assert server.asked.wait(PATIENCE)
        screen.send("/exit\r")
        assert screen.wait() == 0
        file.seek(0)
        assert file.read() == b"only the answer\n"


def test_no_server_ends_it_at_once(terminal) -> None:
    screen = terminal("chat", "--interactive", "--port", "9")

    assert screen.wait() == 3
    assert "is the server running?" in screen.screen
