from __future__ import annotations

import pytest
from inferctl_fakes import DONE, FakeServer, sse, text_chunk

PATH = "/v1/completions"


def test_prints_the_answer_and_a_newline(server, inferctl_child) -> None:
    server.json(PATH, text_chunk("Hello there", "stop"))

    done = inferctl_child("completion", "--prompt", "Hi")

    assert (done.code, done.out, done.err) == (0, "Hello there\n", "")
    assert server.bodies(PATH) == [{"prompt": "Hi", "model": "m"}]


def test_streams_the_answer(server, inferctl_child) -> None:
    server.stream(PATH, *(sse(text_chunk(t)) for t in ("Hel", "lo\n")), DONE)

    done = inferctl_child("completion", "--prompt", "Hi", "--stream")

    assert (done.code, done.out, done.err) == (0, "Hello\n", "")
    assert server.bodies(PATH)[0]["stream"] is True


def test_puts_characters_together_that_the_network_cut(server, inferctl_child) -> None:
    event = sse(text_chunk("žlutý 🦙"))
    server.stream(PATH, *(event[i : i + 1] for i in range(len(event))), DONE)

    assert inferctl_child("completion", "--prompt", "Hi", "--stream").out == "žlutý 🦙\n"


def test_sends_every_option(server: FakeServer, inferctl) -> None:
    server.json(PATH, text_chunk("x"))

    inferctl(
        *("completion", "--prompt", "p", "--model", "a/b", "--max-tokens", "7", "--seed", "3"),
        *("--temperature", "0", "--stop", "END", "--stop", "\n"),
    )

    assert server.bodies(PATH) == [
        {
            "prompt": "p",
            "model": "a/b",
            "max_tokens": 7,
            "seed": 3,
            "temperature": 0.0,
            "stop": ["END", "\n"],
        }
    ]


def test_reads_the_prompt_from_stdin(server, inferctl_child) -> None:
    server.json(PATH, text_chunk("x"))

    inferctl_child("completion", "--prompt", "-", stdin="Zwei\nZeilen ä\n".encode())

    assert server.bodies(PATH)[0]["prompt"] == "Zwei\nZeilen ä\n"


def test_undecodable_input_is_no_reason_to_die(server, inferctl_child) -> None:
    server.json(PATH, text_chunk("x"))

    assert inferctl_child("completion", "--prompt", "-", stdin=b"a\xffb").code == 0
    assert server.bodies(PATH)[0]["prompt"] == "a�b"


def test_output_that_the_locale_cannot_show_is_no_reason_to_die(server, inferctl_child) -> None:
    server.json(PATH, text_chunk("ä\ud83d!"))

    done = inferctl_child("completion", "--prompt", "ä", PYTHONIOENCODING="ascii")

    assert (done.code, done.out) == (0, "??!\n")
    assert server.bodies(PATH)[0]["prompt"] == "ä"


def test_json_is_the_servers_answer(server, inferctl) -> None:
    server.json(PATH, text_chunk("x", "stop"))

    assert inferctl("completion", "--prompt", "p", "--json").lines == [text_chunk("x", "stop")]


def test_json_of_a_stream_is_a_line_a_chunk(server, inferctl) -> None:
    chunks = [text_chunk("a"), text_chunk("\nb", "stop")]
    server.stream(PATH, *map(sse, chunks), DONE)

    done = inferctl("--json", "completion", "--prompt", "p", "--stream")

    assert done.lines == chunks
    assert done.err == ""


def test_keep_alive_comments_are_skipped(server, inferctl) -> None:
    server.stream(PATH, b":\n\n", sse(text_chunk("x")), b": ping\n\n", DONE)

    assert inferctl("completion", "--prompt", "p", "--stream").out == "x\n"


def test_an_error_in_the_middle_keeps_what_came(server, inferctl_child) -> None:
    failure = {"error": {"message": "engine died", "type": "server_error", "code": "engine_error"}}
    server.stream(PATH, sse(text_chunk("Hel")), sse(failure), DONE)

    done = inferctl_child("completion", "--prompt", "p", "--stream")

    assert (done.code, done.out, done.err) == (1, "Hel\n", "error: engine died\n")


def test_an_error_in_the_middle_is_json_on_stderr(server, inferctl) -> None:
    failure = {"error": {"message": "engine died", "code": "engine_error"}}
    server.stream(PATH, sse(text_chunk("Hel")), sse(failure))

    done = inferctl("completion", "--prompt", "p", "--stream", "--json")

    assert done.code == 1
    assert done.lines == [text_chunk("Hel")]
    assert done.error["code"] == "engine_error"
    assert done.error["exit_code"] == 1


def test_a_stream_without_its_end_is_a_failure(server, inferctl) -> None:
    server.stream(PATH, sse(text_chunk("Hel")))

    done = inferctl("completion", "--prompt", "p", "--stream")

    assert (done.code, done.out) == (1, "Hel\n")
    assert "before the answer was complete" in done.err


@pytest.mark.parametrize(
    ("reason", "says"), [("length", "--max-tokens"), ("content_filter", "guardrail")]
)
def test_says_why_an_answer_is_short(server, inferctl, reason: str, says: str) -> None:
    server.json(PATH, text_chunk("x", reason))

    done = inferctl("completion", "--prompt", "p")

    assert (done.code, done.out) == (0, "x\n")
    assert says in done.err


def test_a_key_that_may_not_list_leaves_the_model_to_the_server(server, inferctl) -> None:
    server.error("/v1/models", 403, "insufficient_scope", "no")
    server.json(PATH, text_chunk("x"))

    assert inferctl("completion", "--prompt", "p").code == 0
    assert server.bodies(PATH) == [{"prompt": "p"}]
