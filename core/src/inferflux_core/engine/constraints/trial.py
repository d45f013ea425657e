"""Compiling constraints in a process that may be lost."""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from typing import Final

from inferflux_core.engine.constraints.trial_process import MAX_BYTES, MAX_SECONDS
from inferflux_core.errors import EngineError, InvalidRequestError

__all__ = ["Trial"]

_COMMAND: Final = ("-P", "-m", "inferflux_core.engine.constraints.trial_process")
_MAX_MESSAGE: Final = 400
_WORDS: Final = {
    "Unimplemented keys": "JSON Schema keywords that are not supported",
    "Unsatisfiable schema": "no output can satisfy it",
    "oneOf constraints are not supported. Enable 'coerce_one_of' option to approximate oneOf with anyOf": (
        "oneOf is supported only where no value fits two of the schemas; use anyOf"
    ),
}


class Trial:
    """Owns the process; starts it anew whenever it was lost. For one thread."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process if there is none; does not wait for it."""
        if self._process is not None and self._process.poll() is None:
            return
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, *_COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        weakref.finalize(self, _end, self._process)

    def compile(self, kind: str, value: str, tool_format: str) -> str:
        """Compile a constraint within the limits on time and memory.

        Returns:
            The grammar that it stands for, in llguidance's own form.

        Raises:
            InvalidRequestError: it is wrong, or too complex.
            EngineError: the process does not work.
        """
        self.start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps([kind, value, tool_format]).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            self._process = None
            raise _loss(_end(process))
        answer = json.loads(line)
        if "error" in answer:
            raise InvalidRequestError(_sentence(answer["error"]))
        grammar: str = answer["grammar"]
        return grammar


def _end(process: subprocess.Popen[bytes]) -> int:
    with process:
        process.kill()
    return process.returncode


def _loss(status: int) -> Exception:
    if status < 0:
        return InvalidRequestError(
            f"it is too complex: compiling it took more than {MAX_SECONDS} s, or more than "
            f"{MAX_BYTES >> 20} MiB of memory"
        )
    return EngineError(f"the process that checks constraints ended with status {status}")


def _sentence(error: str) -> str:
    """An error of llguidance on one line, in words that a caller of ours may understand."""
    text = " ".join(error.split())
    for theirs, ours in _WORDS.items():
        text = text.replace(theirs, ours)
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}..."
