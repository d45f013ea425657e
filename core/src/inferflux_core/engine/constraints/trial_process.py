"""Compiles constraints on trial, until one of them takes too long.

Reads `[kind, value, tool format]` as a line of JSON from its input for each, and answers with
`{"grammar": ...}` or `{"error": ...}`. It ends without an answer when a constraint takes too much time or
memory: no setting of llguidance bounds all that it does to compile, and a thread inside it cannot be
interrupted.
"""

from __future__ import annotations

import json
import resource
import signal
import sys

from llguidance import LLMatcher, LLTokenizer

from inferflux_core.engine.constraints.grammar import LIMITS, to_grammar
from inferflux_core.tool_calls.formats import FORMATS

__all__ = ["MAX_BYTES", "MAX_FORCED_BYTES", "MAX_SECONDS", "main"]

MAX_SECONDS = 0.6
MAX_BYTES = 256 * 1024 * 1024
MAX_FORCED_BYTES = 10_000
_EOS_ID = 256


class _Bytes:
    """A vocabulary of all bytes, in the shape that llguidance asks for."""

    is_tokenizer_wrapper = True
    tokens = (*(bytes([i]) for i in range(_EOS_ID)), b"\xff<eos>")
    special_token_ids = (_EOS_ID,)
    eos_token_id = _EOS_ID
    bos_token_id = None

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


def _try(tokenizer: LLTokenizer, kind: str, value: str, tool_format: str) -> dict[str, str]:
    """Do all that a request will: compile, compute the first mask and the first forced tokens."""
    try:
        grammar = to_grammar(kind, value, FORMATS[tool_format])
    except (ValueError, RecursionError) as error:
        return {"error": str(error)}
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=LIMITS)
    if matcher.is_error():
        return {"error": matcher.get_error()}
    if any(matcher.compute_bitmask()) and not matcher.is_error():
        if len(matcher.compute_ff_bytes()) > MAX_FORCED_BYTES:
            return {
                "error": f"it begins with over {MAX_FORCED_BYTES} forced bytes; does it ever end?"
            }
        return {"grammar": grammar}
    return {"error": "no output can satisfy it"}


def main() -> None:
    """Answer until the input ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_BYTES, MAX_BYTES))
    # Nobody handles the alarm: it ends the process in the midst of whatever it does.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    tokenizer = LLTokenizer(_Bytes(), eos_token=[_EOS_ID])  # type: ignore[arg-type]
    for line in sys.stdin.buffer:
        kind, value, tool_format = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
        answer = _try(tokenizer, kind, value, tool_format)
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
