"""Rendering a conversation with the template that ships with a model.

Templates are untrusted programs from model files. They run in Jinja's immutable sandbox with the
settings of Hugging Face's `apply_chat_template`, in the engine process, where one that never ends is
ended by the supervisor.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from inferflux_core.errors import InvalidRequestError, ModelLoadError

__all__ = ["ChatTemplate", "check_syntax"]

MAX_RENDERED_CHARS: Final = 16 * 1024 * 1024


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().astimezone().strftime(pattern)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes HTML, which no model was trained on.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


class _GenerationBlock(Extension):
    """`{% generation %}`, which marks answers for those who train models and changes nothing here."""

    tags = {"generation"}  # noqa: RUF012 - declared so by the base class

    def parse(self, parser: Parser) -> nodes.Node:
        """Its body, with a scope of its own, as `transformers` has it."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


_EXTENSIONS: Final = (loopcontrols, _GenerationBlock)


def check_syntax(source: str) -> None:
    """See whether a template can be parsed, without evaluating any of it.

    Raises:
        InvalidRequestError: it cannot.
    """
    try:
        ImmutableSandboxedEnvironment(extensions=_EXTENSIONS).parse(source)
    except (jinja2.TemplateError, RecursionError) as error:
        raise InvalidRequestError(f"it is no chat template in Jinja: {error}") from error


class ChatTemplate:
    """A compiled template.

    Args:
        source: Jinja source.
        bos_text: how the template spells the beginning-of-sequence token.
        eos_text: how it spells the end-of-sequence token.

    Raises:
        ModelLoadError: the source does not compile.
    """

    def __init__(self, source: str, *, bos_text: str = "", eos_text: str = "") -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=_EXTENSIONS
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = _strftime_now
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ModelLoadError(
                f"the chat template does not compile: {error}",
                hint="set `chat_template` of the model to a file with a working template",
            ) from error
        self._tokens = {"bos_token": bos_text, "eos_token": eos_text}

    def render(
        self,
        messages: list[dict[str, Any]],
        *,
        tools: list[dict[str, Any]] | None = None,
        options: dict[str, Any] | None = None,
        continue_last: bool = False,
    ) -> str:
        """The prompt for the next assistant message.

        Args:
            messages: role and content of each turn.
            tools: function definitions, if the model may call any.
            options: further variables for the template, e.g. `{"enable_thinking": False}`.
            continue_last: end the prompt with the last message, which the model goes on with.

        Raises:
            InvalidRequestError: the template refuses this conversation, or fails on it.
        """
        variables = {
            "add_generation_prompt": not continue_last,
            **(options or {}),
            **self._tokens,
        }
        parts: list[str] = []
        length = 0
        try:
            for part in self._template.generate(messages=messages, tools=tools, **variables):
                length += len(part)
                if length > MAX_RENDERED_CHARS:
                    _raise(f"the prompt exceeds {MAX_RENDERED_CHARS} characters")
                parts.append(part)
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise InvalidRequestError(
                f"the model's chat template refuses this conversation: {error}", param="messages"
            ) from error
        except (AttributeError, RecursionError, MemoryError) as error:
            raise InvalidRequestError(
                f"the model's chat template fails on this conversation: {type(error).__name__}",
                param="messages",
            ) from error
        text = "".join(parts)
        return _up_to_last(text, messages) if continue_last else text


def _up_to_last(text: str, messages: list[dict[str, Any]]) -> str:
    """A rendered conversation up to the end of what its last message says."""
    last = str(messages[-1].get("content") or "").strip()
    at = text.rfind(last) if last else -1
    if at < 0:
        raise InvalidRequestError(
            "the model's chat template does not let an answer be continued", param="messages"
        )
    return text[: at + len(last)]
