"""Who did what: one JSON line per request, appended."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from inferflux_core.auth import Principal
from inferflux_core.errors import ConfigError, EngineUnavailableError

__all__ = ["AuditLog", "AuditRecord"]


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. It never holds prompts, answers or credentials: there is no field for them."""

    time: float
    event: str
    request_id: str
    subject: str
    tenant: str
    provider: str
    model: str
    outcome: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class AuditLog:
    """Appends records to a file; without a path it keeps none.

    Raises:
        ConfigError: the file cannot be opened for appending.
    """

    def __init__(self, path: str | None) -> None:
        self._file: int | None = None
        if path is None:
            return
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"audit.path: cannot append to {path}: {error.strerror}",
                hint="choose a writable file, or remove `audit.path`",
            ) from error

    def received(self, request_id: str, principal: Principal, model: str) -> None:
        """Note a request before any work is done for it.

        Raises:
            EngineUnavailableError: it cannot be noted, so it must not be served.
        """
        self._append("received", request_id, principal, model)

    def completed(
        self,
        request_id: str,
        principal: Principal,
        model: str,
        *,
        outcome: str,
        prompt_tokens: int,
        completion_tokens: int,
    ) -> None:
        """Note how a request ended.

        Raises:
            EngineUnavailableError: it cannot be noted.
        """
        self._append(
            "completed",
            request_id,
            principal,
            model,
            outcome=outcome,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        )

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _append(
        self,
        event: str,
        request_id: str,
        principal: Principal,
        model: str,
        *,
        outcome: str = "",
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
    ) -> None:
        if self._file is None:
            return
        record = AuditRecord(
            time=time.time(),
            event=event,
            request_id=request_id,
            subject=principal.subject,
            tenant=principal.tenant,
            provider=principal.provider,
            model=model,
            outcome=outcome,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        )
        line = msgspec.json.encode(record) + b"\n"
        try:
            written = os.write(self._file, line)
        except OSError:
            written = 0
        if written != len(line):
            raise EngineUnavailableError("the audit log cannot be written; no request is served")
