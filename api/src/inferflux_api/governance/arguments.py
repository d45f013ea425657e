"""The texts in the JSON of a call's arguments, complete or not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final

__all__ = ["checked_arguments"]

_ESCAPE: Final = r"\\(?:u[0-9a-fA-F]{4}|[^u])"
# What is neither in quotes nor punctuation is a number, `true`, or no JSON; an incomplete escape at the end
# is of the last kind.
_TOKEN: Final = re.compile(
    rf'"(?P<text>(?:[^"\\]|{_ESCAPE})*)(?P<end>"?)'
    r"|(?P<bare>[^\s\"\[\]{}:,](?:[^\"\[\]{}:,]*[^\s\"\[\]{}:,])?)",
    re.DOTALL,
)
_ESCAPED: Final = re.compile(rf"(?:\\u[0-9a-fA-F]{{4}})+|{_ESCAPE}", re.DOTALL)
_SHORT: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def checked_arguments(arguments: str, check: Callable[[str], str]) -> str:
    """Pass every value through a check, as what it means rather than as it is spelled.

    Names of fields are strings too, and so is one that occurs twice. The spelling of what the check leaves
    as it is stays.

    Args:
        arguments: JSON text, which may have been cut off.
        check: returns a text as it may be seen, or raises.
    """

    def checked(token: re.Match[str]) -> str:
        text = token["bare"] or _ESCAPED.sub(_unescaped, token["text"])
        seen = check(text)
        if seen == text:
            return token[0]
        quoted = json.dumps(seen, ensure_ascii=False)
        is_cut_off = token["bare"] is None and not token["end"]
        return quoted[:-1] if is_cut_off else quoted

    return _TOKEN.sub(checked, arguments)


def _unescaped(escape: re.Match[str]) -> str:
    text = escape[0]
    if text[1] != "u":
        return _SHORT.get(text[1], text[1])
    # Characters beyond the first 65,536 are written as two escapes.
    units = bytes.fromhex(text.replace("\\u", ""))
    return units.decode("utf-16-be", "replace")
