"""The audit log: who did what, in a chain of hashes that is signed as it grows."""

from __future__ import annotations

from inferflux_api.governance.audit.log import AuditLog
from inferflux_api.governance.audit.problems import AuditUnavailableError

__all__ = ["AuditLog", "AuditUnavailableError"]
