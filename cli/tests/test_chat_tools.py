"""A chat whose model calls tools."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from inferctl_fakes import DONE, PATIENCE, FakeServer, call_chunk, chat_chunk, chat_stream, sse

PATH = "/v1/chat/completions"
ADD = "import json, sys; a = json.load(sys.stdin); print(a['a'] + a['b'], end='')"


def tool(name: str = "add", *command: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"a": {"type": "integer"}}}
    definition = {"type": "function", "function": {"name": name, "parameters": parameters}}
    return {**definition, "command": [*command]} if command else definition


def python(script: str) -> tuple[str, str, str]:
    return sys.executable, "-c", script


def calling(*calls: tuple[str, str], content: str | None = None) -> dict[str, Any]:
    """A whole answer that calls."""
    made = [
        {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for i, (name, arguments) in enumerate(calls)
    ]
    message = {"role": "assistant", "content": content, "tool_calls": made}
    return {"choices": [{"message": message, "finish_reason": "tool_calls"}]}


def saying(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"choices": [{"message": message, "finish_reason": "stop"}]}


@pytest.fixture
def tools(tmp_path: Path):
    def write(*tools: dict[str, Any], name: str = "tools.json") -> tuple[str, ...]:
        file = tmp_path / name
        file.write_text(json.dumps(tools))
        return "chat", "--message", "2+3?", "--tools", str(file)

    return write


def results(server: FakeServer, request: int = -1) -> list[dict[str, Any]]:
    return [m for m in server.bodies(PATH)[request]["messages"] if m["role"] == "tool"]


def test_a_command_answers_the_call(server, inferctl, tools) -> None:
    server.json(PATH, calling(("add", '{"a": 2, "b": 3}'), content="Let me see. "))
    server.json(PATH, saying("It is 5."))

    done = inferctl(*tools(tool("add", *python(ADD))), "--yes")

    assert (done.code, done.out) == (0, "Let me see. \nIt is 5.\n")
    assert done.err == 'call add {"a": 2, "b": 3}\n'
    first, second = server.bodies(PATH)
    assert first["tools"] == [tool()]
    assert second["messages"] == [
        {"role": "user", "content": "2+3?"},
        {
            "role": "assistant",
            "content": "Let me see. ",
            "tool_calls": calling(("add", '{"a": 2, "b": 3}'))["choices"][0]["message"][
                "tool_calls"
            ],
        },
        {"role": "tool", "tool_call_id": "call_0", "content": "5"},
    ]


def test_streamed_calls_are_put_together(server, inferctl, tools) -> None:
    server.stream(
        PATH,
        sse(chat_chunk("")),
        sse(call_chunk(0, id="a", type="function", name="add", arguments="")),
        sse(call_chunk(0, arguments='{"a": 1, ')),
        sse(call_chunk(0, arguments='"b": 1}')),
        sse(call_chunk(1, id="b", type="function", name="add", arguments='{"a": 2, "b": 2}')),
        sse(chat_chunk(finish="tool_calls")),
        DONE,
    )
    server.stream(PATH, *chat_stream("2", " and 4"))

    done = inferctl(*tools(tool("add", *python(ADD))), "--yes", "--stream")

    assert (done.code, done.out) == (0, "2 and 4\n")
    assert [(m["tool_call_id"], m["content"]) for m in results(server)] == [("a", "2"), ("b", "4")]


def test_yaml_and_the_form_with_a_key(server, inferctl, tmp_path: Path) -> None:
    file = tmp_path / "tools.yaml"
    file.write_text(
        "tools:\n- type: function\n  function: {name: now}\n  command: [echo, -n, noon]\n"
    )
    server.json(PATH, calling(("now", "{}")))
    server.json(PATH, saying("Noon."))

    done = inferctl("chat", "--message", "When?", "--tools", str(file), "--yes")

    assert (done.code, done.out) == (0, "Noon.\n")
    assert results(server)[0]["content"] == "noon"


def test_json_shows_the_answers_and_the_results(server, inferctl, tools) -> None:
    first, last = calling(("add", '{"a": 2, "b": 3}')), saying("5")
    server.json(PATH, first)
    server.json(PATH, last)

    done = inferctl(*tools(tool("add", *python(ADD))), "--yes", "--json")

    result = {"role": "tool", "tool_call_id": "call_0", "content": "5", "name": "add"}
    assert (done.lines, done.err) == ([first, result, last], "")


def test_the_shell_has_no_part_in_it(server, inferctl, tools, tmp_path: Path) -> None:
    server.json(PATH, calling(("say", '{"text": "$(touch evil); `touch evil`"}')))
    server.json(PATH, saying("ok"))

    inferctl(*tools(tool("say", "printf", "%s", "$HOME; echo x")), "--yes")

    assert results(server)[0]["content"] == "$HOME; echo x"


def test_the_key_stays_with_the_client(server, inferctl, tools, monkeypatch) -> None:
    monkeypatch.setenv("INFERCTL_API_KEY", "secret")
    server.json(PATH, calling(("show", "{}")))
    server.json(PATH, saying("ok"))

    inferctl(*tools(tool("show", *python("import os; print(sorted(os.environ))"))), "--yes")

    assert "PATH" in results(server)[0]["content"]
    assert "INFERCTL" not in results(server)[0]["content"]


@pytest.mark.parametrize(
    ("call", "script", "says"),
    [
        (("add", "{}"), "import sys; sys.exit('cannot add')", "error: the command ended with st"),
        (("add", "{}"), "import sys; sys.exit('cannot add')", "cannot add"),
        (("add", "{}"), "import time; time.sleep(60)", "error: the command took longer than 0.5 s"),
        (("add", "{}"), "print('x' * 2**21)", "error: the command wrote more than 1,048,576 bytes"),
        (("add", "nonsense"), "print(1)", "error: the arguments are not a JSON object"),
        (("add", "[]"), "print(1)", "error: the arguments are not a JSON object"),
        (("other", "{}"), "print(1)", "error: there is no tool other"),
    ],
)
def test_the_model_hears_of_failures(
    server, inferctl, tools, call: tuple[str, str], script: str, says: str
) -> None:
    server.json(PATH, calling(call))
    server.json(PATH, saying("ok"))

    done = inferctl(*tools(tool("add", *python(script))), "--yes", "--tool-timeout", "0.5")

    assert (done.code, done.out) == (0, "ok\n")
    assert says in results(server)[0]["content"]


def test_ctrl_c_ends_the_command_too(server, tools, tmp_path: Path) -> None:
    server.json(PATH, calling(("add", "{}")))
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    script = f"import os, time; open({str(begun)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    command = [*tools(tool("add", *python(script))), "--yes", "--port", str(server.port)]
    with subprocess.Popen([sys.executable, "-m", "inferflux_cli", *command]) as child:
        pid = int(begun.read_text())
        child.send_signal(signal.SIGINT)
        assert child.wait(PATIENCE) == 130

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_call_is_shown_in_one_line(server, inferctl, tools) -> None:
    server.json(PATH, calling(("add", '{"a": 1,\n"b": 2}')))
    server.json(PATH, saying("3"))

    done = inferctl(*tools(tool("add", *python(ADD))), "--yes")

    assert done.err == 'call add {"a": 1, "b": 2}\n'


def test_a_command_that_is_not_there(server, inferctl, tools) -> None:
    server.json(PATH, calling(("add", "{}")))

    done = inferctl(*tools(tool("add", "/nowhere/add")), "--yes")

    assert done.code == 1
    assert done.err.endswith("error: cannot run /nowhere/add: No such file or directory\n")


def test_a_model_that_never_answers_is_stopped(server, inferctl, tools) -> None:
    server.json(PATH, calling(("add", '{"a": 2, "b": 3}')))

    done = inferctl(*tools(tool("add", *python(ADD))), "--yes", "--max-rounds", "3")

    assert done.code == 1
    assert "after 3 rounds" in done.err
    assert "--max-rounds" in done.err
    assert len(server.bodies(PATH)) == 3


@pytest.mark.parametrize("wish", [(), ("--json",)])
def test_nobody_to_allow_a_command(server, inferctl, tools, wish: tuple[str, ...]) -> None:
    done = inferctl(*tools(tool("add", *python(ADD))), *wish)

    assert (done.code, done.out) == (2, "")
    assert "give --yes" in done.err
    assert server.bodies(PATH) == []


def test_calls_without_a_command_are_the_answer_of_a_script(server, inferctl, tools) -> None:
    answer = calling(("add", '{"a": 2}'), ("now", "{}"))
    server.json(PATH, answer)
    command = tools(tool("add"), tool("now", "date"))

    done = inferctl(*command, "--yes")

    assert (done.code, done.out) == (0, 'call add {"a": 2}\ncall now {}\n')
    assert "for you to answer" in done.err
    assert inferctl(*command, "--yes", "--json").lines == [answer]
    assert results(server) == []


def test_at_a_terminal_the_user_allows_commands(server, terminal, tools) -> None:
    server.json(PATH, calling(("add", '{"a": 2, "b": 3}')))
    server.json(PATH, calling(("add", '{"a": 4, "b": 3}')))
    server.json(PATH, saying("done"))

    screen = terminal(*tools(tool("add", *python(ADD))))
    screen.expect('call add {"a": 2, "b": 3}')
    screen.expect("[y/N]")
    screen.send("y\r")
    screen.expect("[y/N]")
    screen.send("\r")
    screen.expect("done")

    assert screen.wait() == 0
    said = [m["content"] for m in results(server)]
    assert said == ["5", "error: the user did not allow this call"]


def test_at_a_terminal_the_user_gives_results(server, terminal, tools) -> None:
    server.json(PATH, calling(("add", '{"a": "\x1b]0;evil\x07"}')))
    server.json(PATH, saying("So it is 5."))

    screen = terminal(*tools(tool("add")))
    screen.expect("result of add")
    screen.send("5\r")
    screen.expect("So it is 5.")

    assert screen.wait() == 0
    assert [m["content"] for m in results(server)] == ["5"]
    assert "\x1b]" not in screen.raw


def test_ctrl_c_at_a_question_leaves(server, terminal, tools) -> None:
    server.json(PATH, calling(("add", "{}")))

    screen = terminal(*tools(tool("add", *python(ADD))))
    screen.expect("[y/N]")
    # Enter, as Python does not see a Ctrl-C in the moment before it waits for input.
    screen.send("\x03\r")

    assert screen.wait() == 130


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "cannot be used"),
        ("[]", "no list of tools"),
        ("3", "no list of tools"),
        ("- 3", "tool 1 is not of the type function"),
        ("- type: web_search", "tool 1 is not of the type function"),
        ("- {function: {name: a}, comand: [x]}", "unknown field comand"),
        ("- function: {}", "no function.name"),
        ("- {function: {name: a}, command: rm -rf}", "not a list of texts"),
        ("- {function: {name: a}, command: []}", "not a list of texts"),
        ("- {function: {name: a}}\n- {function: {name: a}}", "two tools called a"),
        ("- {function: {name: a, description: 2020-01-01}}", "not JSON serializable"),
    ],
)
def test_a_file_that_holds_no_tools(
    server, inferctl, tmp_path: Path, content: str, says: str
) -> None:
    file = tmp_path / "tools.yaml"
    file.write_text(content)

    done = inferctl("chat", "--message", "x", "--tools", str(file))

    assert done.code == 1
    assert says in done.err
    assert "hint: the file holds a list of OpenAI tool definitions" in done.err


def test_no_such_file(inferctl) -> None:
    done = inferctl("chat", "--message", "x", "--tools", "/nowhere.json")

    assert (done.code, done.err) == (
        1,
        "error: cannot read /nowhere.json: No such file or directory\n",
    )


def test_a_conversation_takes_no_tools(inferctl, tools) -> None:
    done = inferctl(*tools(tool("add")), "--interactive")

    assert done.code == 2
    assert "--tools goes with --message" in done.err
