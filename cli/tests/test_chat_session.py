from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferflux_cli.chat_session import ROLES, Message, Transcript, parse_message
from inferflux_cli.errors import CliError

CONTENT = st.text(st.characters(exclude_categories=()))
MESSAGES = st.lists(st.builds(Message, st.sampled_from(ROLES), CONTENT, st.booleans()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user:Hi", Message("user", "Hi")),
        ("system:a:b", Message("system", "a:b")),
        ("assistant:", Message("assistant", "")),
        ("plain", Message("user", "plain")),
        ("tool:x", Message("user", "tool:x")),
        ("user", Message("user", "user")),
        (" user:x", Message("user", " user:x")),
    ],
)
def test_roles(text: str, message: Message) -> None:
    assert parse_message(text) == message


@given(MESSAGES, st.none() | st.text(min_size=1))
def test_what_is_saved_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, messages: list[Message], model: str | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.json"

    Transcript(messages).save(path, model=model)

    assert Transcript.load(path) == (Transcript(messages), model)


def test_the_file_is_private_even_over_a_public_one(tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    path.write_text("{}")
    path.chmod(0o644)

    Transcript([Message("user", "secret")]).save(path, model=None)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["chat.json"]


def test_a_failed_save_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "taken"
    target.mkdir()

    with pytest.raises(CliError, match="cannot write"):
        Transcript().save(target, model=None)
    with pytest.raises(CliError, match="cannot write"):
        Transcript().save(tmp_path / "missing" / "chat.json", model=None)

    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"format": "inferctl-transcript", "version": 2, "messages": []},
        {"format": "inferctl-transcript", "version": 1, "messages": [{"role": "user"}]},
        {
            "format": "inferctl-transcript",
            "version": 1,
            "messages": [{"role": "root", "content": ""}],
        },
        {
            "format": "inferctl-transcript",
            "version": 1,
            "messages": [{"role": "user", "content": 3}],
        },
    ],
)
def test_other_files_are_refused(tmp_path: Path, document: object) -> None:
    path = tmp_path / "chat.json"
    path.write_text(json.dumps(document))

    with pytest.raises(CliError, match="not a chat transcript"):
        Transcript.load(path)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="cannot read"):
        Transcript.load(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    with pytest.raises(CliError, match="not JSON"):
        Transcript.load(tmp_path / "binary")


def test_the_system_message_stays_first_and_survives_clear() -> None:
    transcript = Transcript([Message("user", "Hi")])

    transcript.set_system("one")
    transcript.set_system("two")
    assert [m.content for m in transcript.messages] == ["two", "Hi"]

    transcript.clear()
    assert transcript.messages == [Message("system", "two")]

    transcript.set_system("")
    assert transcript.messages == []
