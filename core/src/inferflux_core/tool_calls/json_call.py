"""Reading one call that is written as a JSON object, while it is being written."""

from __future__ import annotations

import json
from collections.abc import Collection

__all__ = ["JsonCallReader"]

_ARGUMENTS = ("arguments", "parameters")


class JsonCallReader:
    """Reads `{"name": "...", "arguments": {...}}`, in either order, one character at a time.

    The text of the arguments is passed on as it comes, once the name is known. What turns out not to be
    a call is in `text`.

    Args:
        names: of the tools there are.

    Attributes:
        depth: brackets that are open.
        name: of the tool, once it is known.
        done: whether the object has ended.
        failed: whether it cannot be a call.
        text: everything that was read.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._read: list[str] = []
        self._value: list[str] = []
        self._pending: list[str] = []
        self._key: str | None = None
        self._in_string = False
        self._escaped = False
        self._quoted = False
        self.depth = 0
        self.name: str | None = None
        self.done = False
        self.failed = False

    @property
    def text(self) -> str:
        """Everything that was read."""
        return "".join(self._read)

    def feed(self, text: str) -> tuple[int, str]:
        """Read on.

        Returns:
            How many characters belong to the object, and what is new of the arguments.
        """
        used = len(text)
        for at, char in enumerate(text, start=1):
            self._read.append(char)
            self._step(char)
            if self.done or self.failed:
                used = at
                break
        arguments = ""
        if self.name is not None:
            arguments, self._pending = "".join(self._pending), []
        return used, arguments

    def _step(self, char: str) -> None:
        if self._in_string:
            self._take(char)
            self._in_string = self._escaped or char != '"'
            self._escaped = char == "\\" and not self._escaped
        elif char in "{[":
            self.depth += 1
            if self.depth > 1:
                self._take(char)
        elif not self.depth:
            self.failed = not char.isspace()
        elif char in "}]":
            self._close(char)
        elif self.depth == 1 and char in ":,":
            if char == "," or self._key is not None:
                self._end_member()
            else:
                self._begin_value()
        else:
            self._in_string = char == '"'
            self._take(char)

    def _close(self, char: str) -> None:
        self.depth -= 1
        if self.depth:
            self._take(char)
        else:
            self._end_member()
            self.done = True
            self.failed = self.failed or self.name is None

    def _begin_value(self) -> None:
        key = "".join(self._value).strip()
        self._value = []
        try:
            self._key = json.loads(key)
        except ValueError:
            self.failed = True

    def _take(self, char: str) -> None:
        if self._key in _ARGUMENTS:
            if not self._value and char.isspace():
                return
            if not self._value:
                # Some models write the arguments as a string that holds JSON.
                self._quoted = char == '"'
            self._value.append(char)
            if not self._quoted:
                self._pending.append(char)
        else:
            self._value.append(char)

    def _end_member(self) -> None:
        value, key = "".join(self._value).strip(), self._key
        self._value, self._key = [], None
        if key == "name":
            self._name(value)
        elif key in _ARGUMENTS:
            if self._quoted:
                self._unquote(value)
            elif not value.startswith("{"):
                self.failed = True

    def _name(self, value: str) -> None:
        try:
            name = json.loads(value)
        except ValueError:
            name = None
        if isinstance(name, str) and name in self._names:
            self.name = name
        else:
            self.failed = True

    def _unquote(self, value: str) -> None:
        try:
            arguments = json.loads(value)
            json.loads(arguments)
        except (ValueError, TypeError):
            self.failed = True
        else:
            self._pending.append(arguments)
