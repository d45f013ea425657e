"""The audit log of a server: what is noted, and what happens if it cannot be."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from inferflux_api.governance.audit.actions import CURRENT, Action
from inferflux_api.governance.audit.flood import Flood
from inferflux_api.governance.audit.journal import Journal
from inferflux_api.governance.audit.keeper import Keeper
from inferflux_api.governance.audit.problems import AuditUnavailableError
from inferflux_api.governance.audit.records import Entry
from inferflux_api.governance.audit.sinks.courier import Courier
from inferflux_api.governance.audit.sinks.registry import open_sink
from inferflux_api.observability.metrics import Metrics
from inferflux_core.auth import Principal
from inferflux_core.config.schema import AuditConfig
from inferflux_core.errors import InferFluxError

__all__ = ["AuditLog"]

logger = logging.getLogger("inferflux.audit")

_REFUSALS: Final = {401: "authentication", 403: "permission", 429: "limit"}
"""Statuses of refusals; each kind has a bound of its own, so that none hides another."""


class AuditLog:
    """Notes requests, refusals and actions; without a path it notes nothing.

    Args:
        config: the section `audit`.
        metrics: counts what is not in the log, or not in a sink.
        generation: number of the policy that is in force.

    Raises:
        ConfigError: the log cannot be kept as it is configured.
    """

    def __init__(
        self, config: AuditConfig, metrics: Metrics, generation: Callable[[], int] = lambda: 0
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._generation = generation
        self._journal: Journal | None = None
        self._floods = {kind: Flood() for kind in _REFUSALS.values()}
        self._couriers: list[Courier] = []
        if config.path is None:
            return
        for index, sink in enumerate(config.sinks):
            name = f"{index}-{sink.type}"
            dropped = metrics.audit_dropped.labels(name)
            self._couriers.append(Courier(name, open_sink(sink), sink.max_queue, dropped.inc))
        self._journal = Journal(Path(config.path), config, self._forward)
        for courier in self._couriers:
            courier.start()
        self._keeper = Keeper(
            self._journal, syncs=config.fsync == "interval", also=self._note_losses
        )
        self._keeper.start()

    def received(self, request_id: str, principal: Principal, model: str) -> None:
        """Note a request before any work is done for it.

        Raises:
            AuditUnavailableError: it cannot be noted, so it must not be served.
        """
        self._write("received", principal, request_id=request_id, model=model)

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
            AuditUnavailableError: it cannot be noted.
        """
        self._write(
            "completed",
            principal,
            request_id=request_id,
            model=model,
            outcome=outcome,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        )

    def prompted(
        self,
        kind: Literal["redacted", "full"],
        request_id: str,
        principal: Principal,
        model: str,
        prompts: Sequence[Any],
    ) -> None:
        """Note what a model is asked, if that is wanted.

        Args:
            kind: whether guardrails have seen them.
            request_id: as in the other records of the request.
            principal: who asks.
            model: who is asked.
            prompts: anything that can be written as JSON.

        Raises:
            AuditUnavailableError: they cannot be noted.
        """
        if self._config.prompts == kind:
            self._write("prompt", principal, request_id=request_id, model=model, prompts=prompts)

    def refusal(
        self,
        error: InferFluxError,
        *,
        action: str = "",
        client: str = "",
        principal: Principal | None = None,
    ) -> InferFluxError:
        """Note that a caller was refused, if `error` says so.

        Args:
            error: what the caller would be told.
            action: what it wanted, without anything secret.
            client: its address.
            principal: who it is, if that is known.

        Returns:
            What the caller is to be told.
        """
        kind = _REFUSALS.get(error.status)
        if kind is None or self._journal is None:
            return error
        if not self._floods[kind].admits():
            self._metrics.audit_suppressed.labels(kind).inc()
            return error
        try:
            self._write("refused", principal, reason=error.code, action=action, client=client)
        except AuditUnavailableError as unavailable:
            if self._config.strict:
                return unavailable
        return error

    def acted(
        self,
        event: Literal["action", "acted"],
        principal: Principal,
        action: str,
        *,
        target: str,
        client: str,
        outcome: str,
    ) -> None:
        """Note an action of an administrator.

        Raises:
            AuditUnavailableError: it cannot be noted, and is not to be done without.
        """
        try:
            self._write(
                event,
                principal,
                durably=True,
                action=action,
                target=target,
                client=client,
                outcome=outcome,
            )
        except AuditUnavailableError:
            if self._config.strict:
                raise

    @contextmanager
    def action(
        self, principal: Principal, name: str, target: str, client: str = ""
    ) -> Iterator[None]:
        """Note an action before it is done, and how it ended.

        Raises:
            AuditUnavailableError: it cannot be noted.
        """
        action = Action(self, name, target=target, client=client)
        action.principal = principal
        action.begin()
        outcome = "abort"
        try:
            yield
            outcome = "ok"
        except InferFluxError as error:
            outcome = error.code
            raise
        except Exception:
            outcome = "internal_error"
            raise
        finally:
            self.finish(action, outcome)

    def finish(self, action: Action, outcome: str) -> None:
        """Note how an action ended. It was done, so nobody is told if that is impossible."""
        try:
            action.end(outcome)
        except AuditUnavailableError as error:
            logger.error("%s", error.message)

    @staticmethod
    def note(error: InferFluxError) -> None:
        """Let the running action know of an error that its client is told of."""
        action = CURRENT.get()
        if action is not None:
            action.error = error.code

    def close(self) -> None:
        """Write what is left, sign it, and let everything go. Idempotent."""
        if self._journal is None or self._journal.closed:
            return
        self._keeper.stop()
        for finish in (self._note_losses, self._journal.close):
            try:
                finish()
            except AuditUnavailableError as error:
                logger.error("%s", error.message)
        for courier in self._couriers:
            courier.end()
        for courier in self._couriers:
            courier.join()

    def _write(
        self, event: str, principal: Principal | None, *, durably: bool = False, **fields: Any
    ) -> None:
        if self._journal is None:
            return
        if principal is not None:
            fields |= {
                "subject": principal.subject,
                "tenant": principal.tenant,
                "provider": principal.provider,
            }
        try:
            self._journal.append(
                event, durably=durably, policy_generation=self._generation(), **fields
            )
        except AuditUnavailableError:
            self._metrics.audit_failures.inc()
            raise

    def _forward(self, entry: Entry) -> None:
        for courier in self._couriers:
            courier.offer(entry)

    def _note_losses(self) -> None:
        """Write how many records were not written, here or in a sink."""
        assert self._journal is not None
        for kind, flood in self._floods.items():
            if count := flood.take():
                self._journal.append("suppressed", count=count, reason=kind)
        for courier in self._couriers:
            if count := courier.take_dropped():
                self._journal.append("dropped", count=count, detail=courier.label)
