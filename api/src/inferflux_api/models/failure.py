"""Why a model is not in memory although somebody wants it to be."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from inferflux_core.errors import EngineUnavailableError, ModelLoadError, StartupError

__all__ = ["LoadFailure", "NoRoomError"]

_FIRST_BACKOFF_SECONDS: Final = 1.0
_LAST_BACKOFF_SECONDS: Final = 60.0
_SHORTEST_WAIT_SECONDS: Final = 1.0


class NoRoomError(ModelLoadError):
    """A model does not fit into the memory budget.

    Attributes:
        can_pass: whether it will fit once other models are idle.
    """

    def __init__(self, message: str, *, hint: str, can_pass: bool) -> None:
        super().__init__(message, hint=hint)
        self.can_pass = can_pass


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """Why a model could not be loaded, and when it may be tried again.

    Attributes:
        model: its name.
        cause: for operators; may name files.
        backoff: seconds between this failure and the next try.
        until: when those are over, on the monotonic clock.
    """

    model: str
    cause: StartupError
    backoff: float
    until: float

    @classmethod
    def after(cls, previous: LoadFailure | None, model: str, cause: StartupError) -> LoadFailure:
        """The failure that follows another one, or none: tries become rarer.

        Whether there is room now is seen without trying, and so at once.
        """
        backoff = _FIRST_BACKOFF_SECONDS
        if isinstance(cause, NoRoomError):
            backoff = 0.0
        elif previous is not None:
            backoff = min(max(backoff, previous.backoff * 2), _LAST_BACKOFF_SECONDS)
        return cls(model, cause, backoff, time.monotonic() + backoff)

    @property
    def reason(self) -> str:
        """The cause and what to do about it, on one line."""
        hint = f"; {self.cause.hint}" if self.cause.hint else ""
        return f"{self.cause.message}{hint}"

    def error(self, *, in_full: bool = False) -> EngineUnavailableError:
        """What to tell a client; the whole cause only if it may see it."""
        wait: float | None = max(self.until - time.monotonic(), _SHORTEST_WAIT_SECONDS)
        if isinstance(self.cause, NoRoomError):
            in_full = True
            wait = wait if self.cause.can_pass else None
        why = "; the server's log says why, and so does `inferctl models show` to keys with scope admin"
        if in_full:
            why = f": {self.reason}"
        return EngineUnavailableError(
            f"model '{self.model}' cannot be loaded{why}", retry_after=wait
        )
