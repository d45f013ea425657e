"""Reading answers as they come: what is reasoning, what is text, and what calls a tool."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from inferflux_core.tool_calls.formats import ReasoningMarkers, ToolFormat
from inferflux_core.tool_calls.json_call import JsonCallReader
from inferflux_core.tool_calls.spellings import ReadCall, read_gemma, read_xml

__all__ = ["AnswerParser", "Parsed", "ToolCallDelta", "new_call_id"]

_ID_CHARACTERS: Final = string.ascii_letters + string.digits
_READERS: Final[dict[str, ReadCall]] = {"xml": read_xml, "gemma": read_gemma}
_SPACE: Final = " \t\r\n"
_FENCE: Final = "```json"


def new_call_id() -> str:
    """A name for a call, as OpenAI's look."""
    return "call_" + "".join(secrets.choice(_ID_CHARACTERS) for _ in range(24))


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """What is new about a call. The first delta of a call has its id and name.

    Attributes:
        index: of the call in the answer.
        id: of the call.
        name: of the tool.
        arguments: more of the JSON text of the arguments.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(slots=True)
class Parsed:
    """What an answer's next piece of text has turned out to be."""

    content: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCallDelta] = field(default_factory=list)


class AnswerParser:
    """Reads one answer. Takes time linear in its length.

    Text that may still become a marker is held back; so is a bare call until its tool is known. What
    looked like a call and is none is text.

    Args:
        schemas: JSON schemas of the tools' arguments by name; none if the answer may call nothing.
        tool_format: how the model spells calls.
        reasoning: what it writes around its reasoning, if it reasons.
        in_reasoning: whether the prompt has opened the reasoning already.
    """

    def __init__(
        self,
        schemas: Mapping[str, dict[str, Any]],
        tool_format: ToolFormat,
        reasoning: ReasoningMarkers | None = None,
        *,
        in_reasoning: bool = False,
    ) -> None:
        self._schemas = schemas
        self._format = tool_format
        self._reasoning = reasoning
        self._state = self._answer
        if reasoning is not None:
            self._state = self._begin_reasoning if in_reasoning else self._may_reason
        self._held = ""
        self._between_calls = _SPACE + tool_format.separator.strip()
        if tool_format.listed:
            self._between_calls += "[]"
        self._inside: list[str] = []
        self._call: JsonCallReader | None = None
        self._named = False
        self._wrote_arguments = False
        self._blank = True
        self._opened = ""
        self.num_calls = 0

    def feed(self, text: str) -> Parsed:
        """Read more of the answer."""
        return self._run(self._held + text, final=False)

    def finish(self) -> Parsed:
        """The answer has ended; what was held back is told."""
        return self._run(self._held, final=True)

    def _run(self, text: str, *, final: bool) -> Parsed:
        out = Parsed()
        while True:
            # Each state takes what it understands and leaves the rest to the next one.
            state = self._state
            rest = state(text, out, final=final)
            if state == self._state:
                self._held = rest
                return out
            text = rest

    def _may_reason(self, text: str, out: Parsed, *, final: bool) -> str:
        assert self._reasoning is not None
        opening, begun = self._reasoning.opening, text.lstrip()
        if begun.startswith(opening):
            self._state = self._begin_reasoning
            return begun[len(opening) :]
        if opening.startswith(begun) and not final:
            return text
        self._state = self._answer
        return text

    def _begin_reasoning(self, text: str, out: Parsed, *, final: bool) -> str:
        text = text.lstrip("\n")
        if text or final:
            self._state = self._reason
        return text

    def _reason(self, text: str, out: Parsed, *, final: bool) -> str:
        assert self._reasoning is not None
        closing = self._reasoning.closing
        before, found, after = text.partition(closing)
        if found:
            out.reasoning += before.rstrip("\n")
            self._state = self._after_reasoning
            return after
        keep = 0 if final else _tail(text, closing)
        # Line breaks before the closing marker belong to it.
        shown = text[: len(text) - keep]
        if not final:
            shown = shown.rstrip("\n")
        out.reasoning += shown
        return text[len(shown) :]

    def _after_reasoning(self, text: str, out: Parsed, *, final: bool) -> str:
        text = text.lstrip("\n")
        if text or final:
            self._state = self._answer
        return text

    def _answer(self, text: str, out: Parsed, *, final: bool) -> str:
        if not self._schemas:
            out.content += text
            return ""
        if self._blank and self._format.bare:
            begun = text.lstrip()
            fenced = begun.removeprefix(_FENCE).lstrip()
            if fenced.startswith("{"):
                self._opened = text[: len(text) - len(fenced)]
                self._begin_call()
                return fenced
            if not final and (not fenced or _FENCE.startswith(begun)):
                return text
        opening = self._format.opening
        before, found, after = text.partition(opening)
        if found:
            self._show("" if self._blank and not before.strip() else before, out)
            self._opened = opening
            self._state = self._between
            return after
        keep = 0 if final else _tail(text, opening)
        shown = text[: len(text) - keep]
        if self._blank and not shown.strip() and not final:
            # Blanks before a call are none of the answer.
            return text
        self._show(shown, out)
        return text[len(shown) :]

    def _show(self, text: str, out: Parsed) -> None:
        out.content += text
        self._blank = self._blank and not text.strip()

    def _between(self, text: str, out: Parsed, *, final: bool) -> str:
        """After an opening marker or a call: another call, another marker, or text."""
        rest = text.lstrip(self._between_calls)
        closing, opening = self._format.closing, self._format.opening
        if not self._opened:
            # A call has just ended; what closes it says nothing.
            for marker in filter(None, (closing, "```")):
                if rest.startswith(marker):
                    return self._between(rest[len(marker) :], out, final=final)
                if rest and marker.startswith(rest) and not final:
                    return text
            if rest.startswith(opening):
                self._opened = opening
                return self._between(rest[len(opening) :], out, final=final)
            if rest and opening.startswith(rest) and not final:
                return text
        if not rest:
            return "" if final else text
        if self._opened or (rest.startswith("{") and not closing and self._format.body == "json"):
            self._begin_call()
            return rest
        self._state = self._answer
        return rest

    def _begin_call(self) -> None:
        self._named = self._wrote_arguments = False
        self._call = None
        kind = self._format.body
        bare = self._opened != self._format.opening
        self._state = {"json": self._json, "named": self._named_call}.get(kind, self._whole)
        if bare or kind == "json":
            self._call = JsonCallReader(self._schemas)
            self._state = self._json

    def _json(self, text: str, out: Parsed, *, final: bool) -> str:
        call = self._call
        assert call is not None
        used, arguments = call.feed(text)
        if call.failed:
            self._fall_back(call.text, out)
            return text[used:]
        if call.name is not None:
            if not self._named:
                self._named = True
                self._announce(call.name, out)
            self._argue(arguments, out)
        if call.done:
            self._end_call(out)
        elif final and call.name is None:
            self._show(self._opened + call.text, out)
        return text[used:]

    def _named_call(self, text: str, out: Parsed, *, final: bool) -> str:
        """`name[ARGS]{...}` or `name{...}`, the former perhaps with an id before the arguments."""
        at = text.find("{")
        name = text[: max(at, 0)].split("[", 1)[0].strip()
        if at < 0:
            if not final:
                return text
            self._fall_back(text, out)
            return ""
        if name not in self._schemas:
            self._fall_back(text[: at + 1], out)
            return text[at + 1 :]
        # The rest is read as if it stood in an object.
        self._call = JsonCallReader((name,))
        self._call.feed(f'{{"name": "{name}", "arguments": ')
        self._named = True
        self._announce(name, out)
        self._state = self._inner
        return text[at:]

    def _inner(self, text: str, out: Parsed, *, final: bool) -> str:
        call = self._call
        assert call is not None
        for at, char in enumerate(text, start=1):
            _, arguments = call.feed(char)
            self._argue(arguments, out)
            if call.depth == 1 and char == "}":
                self._end_call(out)
                return text[at:]
        return ""

    def _whole(self, text: str, out: Parsed, *, final: bool) -> str:
        closing = self._format.closing
        inside, found, after = text.partition(closing)
        if not found and not final:
            keep = _tail(text, closing)
            self._inside.append(text[: len(text) - keep])
            return text[len(text) - keep :]
        self._inside.append(inside)
        inside, self._inside = "".join(self._inside), []
        call = _READERS[self._format.body](inside, self._schemas) if found else None
        if call is None:
            self._fall_back(inside + found, out)
            return after
        self._announce(call[0], out)
        self._argue(call[1], out)
        self._end_call(out)
        return after

    def _fall_back(self, text: str, out: Parsed) -> None:
        """What looked like a call was none."""
        self._show(self._opened + text, out)
        self._opened = ""
        self._state = self._answer

    def _announce(self, name: str, out: Parsed) -> None:
        out.tool_calls.append(ToolCallDelta(self.num_calls, new_call_id(), name))

    def _argue(self, arguments: str, out: Parsed) -> None:
        if arguments:
            self._wrote_arguments = True
            out.tool_calls.append(ToolCallDelta(self.num_calls, arguments=arguments))

    def _end_call(self, out: Parsed) -> None:
        if not self._wrote_arguments:
            self._argue("{}", out)
        self.num_calls += 1
        self._opened = ""
        self._blank = False
        self._state = self._between


def _tail(text: str, marker: str) -> int:
    """Length of the longest tail of `text` that is a proper prefix of `marker`."""
    for length in range(min(len(text), len(marker) - 1), 0, -1):
        if text.endswith(marker[:length]):
            return length
    return 0
