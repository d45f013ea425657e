"""One interpreter of Rego, with its policies compiled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import regopy

from inferflux_core.guardrails.reviewing import ReviewError
from inferflux_guardrail_rego.config import RegoConfig
from inferflux_guardrail_rego.sources import data_source, policy_source, refuse

__all__ = ["UNDEFINED", "Evaluator", "Program"]

UNDEFINED: Final = object()

# What regopy says: `(error 8:a.rego|28|1 (errormsg 16:this is unclosed)`, with an offset in bytes.
_ERROR: Final = re.compile(r"\(error \d+:.*?\|(\d+)\|\d+\s+\(errormsg \d+:(.*?)\)")


@dataclass(frozen=True, slots=True)
class Program:
    """What is evaluated: names and texts of policies, and of data, and the query."""

    policies: Sequence[tuple[str, str]]
    data: Sequence[tuple[str, str]]
    query: str

    @classmethod
    def read(cls, config: RegoConfig) -> Program:
        """Read the files.

        Raises:
            ConfigError: one of them cannot be used.
        """
        return cls(
            [(file, policy_source(file)) for file in config.policies],
            [(file, data_source(file)) for file in config.data],
            config.query,
        )


class Evaluator:
    """Evaluates a program. Not to be used by two threads at a time.

    Raises:
        ConfigError: a file does not parse.
    """

    def __init__(self, program: Program) -> None:
        self._rego = regopy.Interpreter()
        # It would print what it complains about.
        self._rego.log_level = regopy.LogLevel.NONE
        # A function that fails is undefined otherwise, and `not` of that is true.
        self._rego.strict_built_in_errors = True
        for file, source in program.policies:
            self._add(file, source, self._rego.add_module, file)
        for file, source in program.data:
            self._add(file, source, self._rego.add_data_json)
        self._bundle = self._rego.build(f"x = {program.query}")

    def evaluate(self, document: dict[str, str]) -> Any:
        """The value of the query for this input; `UNDEFINED` if it has none.

        Raises:
            ReviewError: it cannot be told.
        """
        # Its strings end at the first zero byte, and nothing behind it would be seen.
        self._rego.set_input({key: text.replace("\0", "\ufffd") for key, text in document.items()})
        try:
            output = self._rego.query_bundle(self._bundle)
        except (ValueError, regopy.RegoError):
            # The message of a JSON error says nothing; it is how an unknown function shows.
            raise ReviewError("a function is unknown, or the decision is not JSON") from None
        if not output.ok():
            raise ReviewError("rules contradict each other, or a function failed")
        return output[0].bindings.get("x", UNDEFINED)

    @staticmethod
    def _add(file: str, source: str, add: Any, *name: str) -> None:
        try:
            add(*name, source)
        except regopy.RegoError as error:
            found = _ERROR.search(str(error))
            offset, problem = (int(found[1]), found[2]) if found else (0, "it does not parse")
            line = source.encode()[:offset].count(b"\n") + 1
            refuse(file, line, problem, "Correct it; `opa check` says more about it.")
