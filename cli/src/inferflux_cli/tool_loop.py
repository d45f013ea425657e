"""Answering the calls of a model until it answers itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from inferflux_cli.answer import Answer, ToolCall
from inferflux_cli.asking import ask, can_ask, confirm
from inferflux_cli.client import Client
from inferflux_cli.errors import CliError
from inferflux_cli.generation import deliver, with_model
from inferflux_cli.render import Output
from inferflux_cli.tools import Tool, run_command

__all__ = ["ToolBox"]

_PATH = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class ToolBox:
    """The tools of a chat.

    Attributes:
        yes: run commands without asking.
        timeout: of a command, in seconds.
        max_rounds: requests until the model has to be done.
    """

    tools: Sequence[Tool]
    yes: bool
    timeout: float
    max_rounds: int

    @property
    def needs_somebody(self) -> bool:
        """Whether there are commands that somebody must allow."""
        return not self.yes and any(tool.command for tool in self.tools)

    def converse(
        self, client: Client, output: Output, body: dict[str, Any], *, stream: bool
    ) -> None:
        """Send a chat and write its answers, with the calls in between answered.

        Raises:
            CliError: the model goes on calling for too long.
        """
        body = with_model(client, {**body, "tools": [tool.definition for tool in self.tools]})
        for _ in range(self.max_rounds):
            answer = deliver(client, output, _PATH, body, stream=stream)
            if not answer.calls:
                return
            results = self._results(output, answer.calls)
            if results is None:
                return
            body = {**body, "messages": [*body["messages"], _turn(answer), *results]}
        raise CliError(
            f"the model still calls tools after {self.max_rounds} rounds",
            hint="allow more with --max-rounds",
        )

    def _results(self, output: Output, calls: Sequence[ToolCall]) -> list[dict[str, Any]] | None:
        """Return the messages that answer calls; None where some can be answered by nobody here."""
        known = {tool.name: tool for tool in self.tools}
        by_hand = any(c.name in known and not known[c.name].command for c in calls)
        if by_hand and not can_ask(output):
            for call in calls:
                output.text(f"{_line(call)}\n")
            output.note("note: the chat ends here; these calls are for you to answer")
            return None
        return [self._message(output, call, known.get(call.name)) for call in calls]

    def _message(self, output: Output, call: ToolCall, tool: Tool | None) -> dict[str, Any]:
        output.note(_line(call))
        content = self._result(output, call, tool)
        message = {"role": "tool", "tool_call_id": call.id, "content": content}
        output.json({**message, "name": call.name})
        return message

    def _result(self, output: Output, call: ToolCall, tool: Tool | None) -> str:
        if tool is None:
            return f"error: there is no tool {call.name}"
        if tool.command is None:
            return ask(f"result of {call.name}")
        if not _is_object(call.arguments):
            return "error: the arguments are not a JSON object"
        if not self.yes and not confirm(f"run {list(tool.command)}?"):
            return "error: the user did not allow this call"
        done = run_command(tool.command, call.arguments, self.timeout)
        if done.stderr:
            output.note(done.stderr.rstrip())
        if done.problem is None:
            return done.output
        output.note(f"note: {done.problem}")
        return f"error: {done.problem}\n{done.stderr or done.output}"


def _line(call: ToolCall) -> str:
    # One line, so that a model cannot make up what we say and ask after it.
    return f"call {call.name} {call.arguments}".replace("\n", " ")


def _turn(answer: Answer) -> dict[str, Any]:
    calls = [call.to_json() for call in answer.calls]
    return {"role": "assistant", "content": answer.text, "tool_calls": calls}


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
