"""The transcript of a chat: what was said, and how it is kept in a file."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inferflux_cli.errors import CliError

__all__ = ["ROLES", "Message", "Transcript", "parse_message"]

ROLES = ("system", "user", "assistant")
_FORMAT = "inferctl-transcript"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `interrupted` marks an answer that was stopped or broke off."""

    role: str
    content: str
    interrupted: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the form kept in files."""
        mark = {"interrupted": True} if self.interrupted else {}
        return {"role": self.role, "content": self.content, **mark}


def parse_message(text: str) -> Message:
    """Read `role:content`; without one of the known roles in front, the user says it all."""
    role, colon, content = text.partition(":")
    return Message(role, content) if colon and role in ROLES else Message("user", text)


@dataclass(slots=True)
class Transcript:
    """A conversation in order; a system message, if there is one, comes first."""

    messages: list[Message] = field(default_factory=list)

    def add(self, role: str, content: str, *, interrupted: bool = False) -> None:
        """Append a turn."""
        self.messages.append(Message(role, content, interrupted))

    def withdraw(self) -> None:
        """Take the last turn back."""
        self.messages.pop()

    def set_system(self, content: str) -> None:
        """Replace the leading system message; empty `content` removes it."""
        rest = self.messages[1:] if self._has_system() else self.messages
        self.messages = [Message("system", content), *rest] if content else list(rest)

    def clear(self) -> None:
        """Forget every turn but the leading system message."""
        del self.messages[1 if self._has_system() else 0 :]

    def to_request(self) -> list[dict[str, str]]:
        """Return the `messages` field of a chat request."""
        return [{"role": m.role, "content": m.content} for m in self.messages]

    def save(self, path: Path, *, model: str | None) -> None:
        """Write the transcript, readable by its owner only, wholly or not at all.

        Raises:
            CliError: the file cannot be written.
        """
        document = {
            "format": _FORMAT,
            "version": _VERSION,
            "model": model,
            "messages": [m.to_json() for m in self.messages],
        }
        try:
            _write_private(path, json.dumps(document, indent=2) + "\n")
        except OSError as error:
            raise CliError(f"cannot write {path}: {error.strerror}") from error

    @classmethod
    def load(cls, path: Path) -> tuple[Transcript, str | None]:
        """Return the transcript in a file and the model it was held with.

        Raises:
            CliError: the file cannot be read or is not a transcript.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise CliError(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise CliError(f"{path} is not JSON: {error}") from error
        try:
            return _parse(document)
        except (KeyError, TypeError, ValueError) as error:
            raise CliError(
                f"{path} is not a chat transcript", hint="load a file that /save wrote"
            ) from error

    def _has_system(self) -> bool:
        return bool(self.messages) and self.messages[0].role == "system"


def _parse(document: Any) -> tuple[Transcript, str | None]:
    if document["format"] != _FORMAT or document["version"] != _VERSION:
        raise ValueError
    messages = [
        Message(m["role"], m["content"], m.get("interrupted", False)) for m in document["messages"]
    ]
    if not all(m.role in ROLES and isinstance(m.content, str) for m in messages):
        raise ValueError
    model = document.get("model")
    return Transcript(messages), model if isinstance(model, str) else None


def _write_private(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise
