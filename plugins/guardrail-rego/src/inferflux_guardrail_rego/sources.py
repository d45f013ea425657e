"""Reading policies and data, and refusing what the evaluator would misunderstand.

regopy compares strings as they are written. The text of a prompt has a real line end where a policy has
backslash and n, so a rule about it would never hold and nobody would notice. Only regular expressions are
read as they are meant; everywhere else such strings are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from inferflux_core.errors import ConfigError

__all__ = ["data_source", "policy_source", "refuse"]

_TOKEN: Final = re.compile(r'#[^\n]*|"(?:[^"\\\n]|\\.)*"|`[^`]*`')
_PATTERN_FOLLOWS: Final = re.compile(
    r"\bregex\.(?:match|is_valid|split|find_n|find_all_string_submatch_n)\s*\(\s*\Z"
)
_ESCAPED: Final = re.compile(r'["\\\x00-\x1f]')
_MAX_BYTES: Final = 16 * 1024 * 1024


def refuse(file: str, line: int | None, problem: str, hint: str) -> NoReturn:
    """Stop the start.

    Raises:
        ConfigError: always; it names the file and the line.
    """
    place = file if line is None else f"{file}, line {line}"
    raise ConfigError(f"guardrails.options.rego: {place}: {problem}", hint=hint)


def policy_source(file: str) -> str:
    """The text of a policy.

    Raises:
        ConfigError: it cannot be read, or a string in it would not mean what it says.
    """
    source = _read(file)
    for token in _TOKEN.finditer(source):
        literal = token[0]
        if literal.startswith("#") or not _ESCAPED.search(literal[1:-1]):
            continue
        if not _PATTERN_FOLLOWS.search(source, max(0, token.start() - 80), token.start()):
            refuse(
                file,
                source.count("\n", 0, token.start()) + 1,
                "a string with a quote, a backslash or a control character would never match",
                "Write it as the pattern of regex.match, where escapes are understood.",
            )
    return source


def data_source(file: str) -> str:
    """A file of data, as the evaluator is to read it.

    Raises:
        ConfigError: it is not a JSON object that can be read, or a string in it would never match.
    """
    try:
        document = msgspec.json.decode(_read(file), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        refuse(file, None, str(error), "Write one JSON object; its keys appear below `data`.")
    for text in _strings(document):
        if _ESCAPED.search(text):
            refuse(
                file,
                None,
                "a string with a quote, a backslash or a control character would never match",
                f"It begins with {text[:20]!r}; leave such characters out.",
            )
    return msgspec.json.encode(document).decode()


def _read(file: str) -> str:
    try:
        with Path(file).open("rb") as source:
            content = source.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            refuse(file, None, f"it has more than {_MAX_BYTES} bytes", "Split it.")
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        refuse(file, None, str(error), "Give the path of a text file in UTF-8.")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
