"""llama.cpp's own messages: collected while something may fail, silenced afterwards."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import llama_cpp

__all__ = ["captured_log", "cause"]


@contextmanager
def captured_log(listen: Callable[[str], None] | None = None) -> Iterator[list[str]]:
    """Collect messages; they say why a load failed.

    Args:
        listen: is called with each as it comes.
    """
    lines: list[str] = []

    def collect(_level: int, text: bytes, _data: ctypes.c_void_p) -> None:
        lines.append(text.decode("utf-8", "replace").strip())
        if listen is not None:
            listen(lines[-1])

    callback = llama_cpp.llama_log_callback(collect)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    try:
        yield lines
    finally:
        # A callback into Python costs more than what it reports; any C function will do instead.
        nothing = ctypes.cast(ctypes.CDLL(None).getpid, llama_cpp.llama_log_callback)
        llama_cpp.llama_log_set(nothing, ctypes.c_void_p(0))


def cause(log: list[str]) -> str:
    """The last lines that look like a reason."""
    reasons = [line for line in log if "error" in line.lower() or "fail" in line.lower()]
    return "; ".join(reasons[-2:]) or "it gave no reason"
