"""An answer of the server as it is put together from chunks, or taken whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from inferflux_cli.errors import CliError
from inferflux_cli.shapes import as_object, as_objects, as_text

__all__ = ["Answer", "ToolCall"]


@dataclass(slots=True)
class ToolCall:
    """A call the model makes; `arguments` is its own text, which ought to be a JSON object."""

    id: str = ""
    name: str = ""
    arguments: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the form it has in messages."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}


@dataclass(slots=True)
class Answer:
    """The first choice of a chat or completion.

    Attributes:
        finish: why it ended, once it has.
    """

    finish: str | None = None
    _parts: list[str] = field(default_factory=list)
    _calls: dict[int, ToolCall] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """What was said."""
        return "".join(self._parts)

    @property
    def calls(self) -> list[ToolCall]:
        """The calls, in their order."""
        return [self._calls[index] for index in sorted(self._calls)]

    def add(self, answer: dict[str, Any]) -> str:
        """Take in a chunk, or a whole answer, and return the text that it brought.

        Raises:
            CliError: it makes no sense.
        """
        choices = answer.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else {}
        if not isinstance(choice, dict):
            raise CliError("the server's answer holds no choices")
        self.finish = as_text(choice.get("finish_reason")) or self.finish
        part = choice.get("delta") or choice.get("message") or choice
        if not isinstance(part, dict):
            return ""
        for position, call in enumerate(as_objects(part.get("tool_calls"))):
            self._add_call(call.get("index", position), call)
        text = part.get("content", part.get("text"))
        if not isinstance(text, str):
            return ""
        self._parts.append(text)
        return text

    def _add_call(self, index: object, given: dict[str, Any]) -> None:
        if not isinstance(index, int):
            raise CliError("the server's answer holds a tool call without an index")
        call = self._calls.setdefault(index, ToolCall())
        function = as_object(given.get("function"))
        call.id = call.id or as_text(given.get("id"))
        call.name = call.name or as_text(function.get("name"))
        call.arguments += as_text(function.get("arguments"))
