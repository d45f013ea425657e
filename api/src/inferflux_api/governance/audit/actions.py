"""An action of an administrator: noted before it is done, and how it ended."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Literal

from inferflux_core.auth import Principal

if TYPE_CHECKING:
    from inferflux_api.governance.audit.log import AuditLog

__all__ = ["CURRENT", "Action", "is_action"]

_HARMLESS: Final = frozenset({"public", "generate", "read"})


def is_action(scope: str) -> bool:
    """Whether what asks for a scope changes the server."""
    return scope not in _HARMLESS and not scope.endswith(":read")


class Action:
    """One of them, on its way.

    Attributes:
        target: what it is about; may be set before it begins.
        error: code of the last error that its client was told.
    """

    def __init__(self, log: AuditLog, name: str, *, target: str = "", client: str = "") -> None:
        self._log = log
        self._name = name
        self._client = client
        self._begun = False
        self.target = target
        self.error = ""
        self.principal: Principal | None = None

    def begin(self) -> None:
        """Note that somebody who may do it is about to.

        Raises:
            AuditUnavailableError: it cannot be noted, so it must not be done.
        """
        if self.principal is None or self._begun:
            return
        self._note("action", "")
        self._begun = True

    def end(self, outcome: str) -> None:
        """Note how it ended; those who were not let in are noted elsewhere.

        Raises:
            AuditUnavailableError: it cannot be noted.
        """
        if self.principal is not None and self.error not in _NOTED:
            self._note("acted", self.error or outcome)

    def _note(self, event: Literal["action", "acted"], outcome: str) -> None:
        assert self.principal is not None
        self._log.acted(
            event,
            self.principal,
            self._name,
            target=self.target,
            client=self._client,
            outcome=outcome,
        )


_NOTED: Final = frozenset({"invalid_api_key", "insufficient_scope", "audit_unavailable"})

CURRENT: ContextVar[Action | None] = ContextVar("audited_action", default=None)
"""What the running task does."""
