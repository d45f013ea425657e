"""A conversation driven by a script."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from inferctl_fakes import PATIENCE, chat_chunk, chat_stream, sse

from inferflux_cli.interactive import one_interrupt

PATH = "/v1/chat/completions"


def test_every_line_is_a_turn_of_one_conversation(server, inferctl_child) -> None:
    server.stream(PATH, *chat_stream("Hi", " Ada"))
    server.stream(PATH, *chat_stream("Ada"))

    done = inferctl_child(
        "chat", "--interactive", "--system", "Be brief.", stdin=b"I am Ada.\n\nWho am I?\n"
    )

    assert (done.code, done.out, done.err) == (0, "Hi Ada\nAda\n", "")
    assert server.bodies(PATH)[1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "I am Ada."},
        {"role": "assistant", "content": "Hi Ada"},
        {"role": "user", "content": "Who am I?"},
    ]


def test_a_backslash_joins_lines(server, inferctl) -> None:
    server.stream(PATH, *chat_stream("ok"))

    inferctl("chat", "--interactive", stdin="one\\\ntwo\\\n\\three\nfour\\")

    asked = [b["messages"][-1]["content"] for b in server.bodies(PATH)]
    assert asked == ["one\ntwo\n\\three", "four"]


def test_a_message_on_the_command_line_opens_the_conversation(server, inferctl) -> None:
    server.stream(PATH, *chat_stream("ok"))

    done = inferctl("chat", "--interactive", "--message", "first", stdin="second\n/exit\nthird\n")

    assert done.out == "ok\nok\n"
    assert [m["content"] for m in server.bodies(PATH)[1]["messages"]] == ["first", "ok", "second"]


def test_commands(server, inferctl, tmp_path: Path) -> None:
    server.stream(PATH, *chat_stream("ok"))
    file = tmp_path / "my chat.json"
    script = f"""\
/system Be kind.
one
/save {file}
/clear
/model other
two
/load {file}
//three
/system
/help
four
"""

    done = inferctl("chat", "--interactive", stdin=script)

    assert done.code == 0
    assert "/save FILE" in done.err
    sent = [(b["model"], [m["content"] for m in b["messages"]]) for b in server.bodies(PATH)]
    assert sent == [
        ("m", ["Be kind.", "one"]),
        ("other", ["Be kind.", "two"]),
        ("m", ["Be kind.", "one", "ok", "/three"]),
        ("m", ["one", "ok", "/three", "ok", "four"]),
    ]
    assert json.loads(file.read_text())["model"] == "m"


@pytest.mark.parametrize(
    ("line", "says"),
    [("/nonsense", "/help"), ("/load", "needs a file"), ("/load /nowhere", "cannot read")],
)
def test_a_script_ends_at_its_first_failure(server, inferctl, line: str, says: str) -> None:
    done = inferctl("chat", "--interactive", stdin=f"{line}\nHello\n")

    assert done.code == 1
    assert says in done.err
    assert server.bodies(PATH) == []


def test_a_failing_server_ends_the_script(server, inferctl) -> None:
    server.error(PATH, 401, "invalid_api_key", "who are you")

    assert inferctl("chat", "--interactive", stdin="a\nb\n").code == 4
    assert len(server.bodies(PATH)) == 1


def test_json_is_an_answer_a_line(server, inferctl) -> None:
    server.stream(PATH, *chat_stream("a", "\nb"))
    server.stream(PATH, sse(chat_chunk("par")), sse({"error": {"message": "died"}}))

    done = inferctl("chat", "--interactive", "--json", stdin="one\ntwo\n")

    assert done.lines == [
        {"role": "assistant", "content": "a\nb", "finish_reason": "stop"},
        {"role": "assistant", "content": "par", "interrupted": True, "finish_reason": None},
    ]
    assert done.error["message"] == "died"
    assert done.code == 1


def test_impatient_ctrl_c_does_not_disturb_the_tidying_up() -> None:
    before = signal.getsignal(signal.SIGINT)
    tidied = []

    def stop_while_tidying() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            tidied.append(True)

    with pytest.raises(KeyboardInterrupt), one_interrupt():
        stop_while_tidying()

    assert tidied == [True]
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_stops_an_answer_but_not_the_script(server, tmp_path: Path) -> None:
    server.stream(PATH, sse(chat_chunk("partial")), None)
    server.stream(PATH, *chat_stream("second"))
    command = [sys.executable, "-m", "inferflux_cli", "chat", "--interactive"]
    with subprocess.Popen(
        [*command, "--port", str(server.port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        child.stdin.write(b"one\ntwo\n")
        child.stdin.flush()
        assert os.read(child.stdout.fileno(), 7) == b"partial"
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=PATIENCE)

    assert (child.returncode, out) == (0, b"\nsecond\n")
    assert b"[stopped" in err
    assert server.disconnected.wait(PATIENCE)
    assert server.bodies(PATH)[1]["messages"][1] == {"role": "assistant", "content": "partial"}
