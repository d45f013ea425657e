"""What can be wrong with an audit log."""

from __future__ import annotations

from inferflux_core.errors import EngineUnavailableError

__all__ = ["AuditUnavailableError", "DamagedError", "reason_of"]


class AuditUnavailableError(EngineUnavailableError):
    """Something cannot be noted, so it must not be done."""

    code = "audit_unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the audit log cannot be written ({reason}); nothing is done without it")


def reason_of(error: OSError) -> str:
    """What the system says, without the name of the file."""
    return error.strerror or str(error)


class DamagedError(Exception):
    """A line is no whole record, or not the one that was written."""
