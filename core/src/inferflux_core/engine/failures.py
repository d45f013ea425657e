"""What callers are told when something goes wrong in the engine process."""

from __future__ import annotations

import traceback

from inferflux_core.errors import EngineError, InferFluxError

__all__ = ["as_told"]


def as_told(error: Exception) -> InferFluxError:
    """An error for the caller; one that nobody foresaw goes to the log, without its message.

    For where commands are read: a thread that ended would leave every request without an answer.
    """
    if isinstance(error, InferFluxError):
        return error
    traceback.print_tb(error.__traceback__)
    return EngineError(f"the engine failed on this request with {type(error).__name__}")
