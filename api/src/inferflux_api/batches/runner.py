"""Working through batches."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import IO, Any, Final

import msgspec

from inferflux_api.batches.records import ENDED, Batch, BatchRecords, LineError
from inferflux_api.files import FileStore, StoredFile
from inferflux_core.auth import Principal
from inferflux_core.errors import InferFluxError, InvalidRequestError, QueueFullError

__all__ = ["Answer", "BatchRunner"]

logger = logging.getLogger("inferflux.batches")

Answer = Callable[[Principal, str, bytes], Awaitable[tuple[int, str, bytes]]]
"""Answers a request body for an endpoint: status, request id, and body of the response."""

MAX_LINES: Final = 50_000
_MAX_RUNNING: Final = 16
_AT_ONCE: Final = 8
_SHOWN_ERRORS: Final = 20
_RETRY_SECONDS: Final = 1.0


class _Line(msgspec.Struct, frozen=True):
    """One request of a batch."""

    custom_id: str
    url: str
    body: msgspec.Raw
    method: str = "POST"


class BatchRunner:
    """Runs batches in the background, a few lines of each at a time.

    Args:
        files: where requests are read from, and answers are written to.
        answer: answers one request.
    """

    def __init__(self, files: FileStore, answer: Answer) -> None:
        self._files = files
        self._answer = answer
        self.records = BatchRecords(files.folder)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, principal: Principal, batch: Batch) -> None:
        """Begin with a batch on behalf of whoever sent it.

        Raises:
            NotFoundError: its file does not exist.
            QueueFullError: too many batches are running.
        """
        source = self._files.get(principal.tenant, batch.input_file_id)
        if len(self._tasks) >= _MAX_RUNNING:
            raise QueueFullError(
                f"{_MAX_RUNNING} batches are running; send this one later", retry_after=60.0
            )
        self.records.save(batch)
        task = asyncio.create_task(self._run(principal, batch, source), name=batch.id)
        self._tasks[batch.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(batch.id, None))

    async def cancel(self, batch: Batch) -> None:
        """End a batch; what it has answered is kept."""
        if batch.status in ENDED:
            raise InvalidRequestError(f"the batch is {batch.status} already", param="batch_id")
        self._mark(batch, "cancelling")
        task = self._tasks.get(batch.id)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def stop(self) -> None:
        """End all batches."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, principal: Principal, batch: Batch, source: StoredFile) -> None:
        try:
            lines = await asyncio.to_thread(self._read, batch, source)
            if batch.errors:
                self._mark(batch, "failed")
                return
            batch.total = len(lines)
            self._mark(batch, "in_progress")
            with ExitStack() as stack:
                out = stack.enter_context(
                    self._files.writing(batch.tenant, f"{batch.id}_output.jsonl", "batch_output")
                )
                bad = stack.enter_context(
                    self._files.writing(batch.tenant, f"{batch.id}_error.jsonl", "batch_output")
                )
                ending = await self._work(principal, batch, lines, out[0], bad[0])
            batch.output_file_id = out[1][0].id
            batch.error_file_id = bad[1][0].id
            self._mark(batch, ending)
        except asyncio.CancelledError:
            batch.errors = [LineError("server_stopped", "the server was stopped; send it again")]
            self._mark(batch, "failed")
            raise
        except (InferFluxError, OSError) as error:
            batch.errors = [LineError("batch_failed", str(error))]
            self._mark(batch, "failed")
        except Exception:
            logger.exception("batch %s failed", batch.id)
            batch.errors = [LineError("internal_error", "the server failed; it was logged")]
            self._mark(batch, "failed")

    async def _work(
        self, principal: Principal, batch: Batch, lines: list[_Line], out: IO[bytes], bad: IO[bytes]
    ) -> str:
        """Answer all lines; returns the status that the batch ends with."""
        waiting = iter(lines)

        async def worker() -> None:
            for line in waiting:
                status, request_id, body = await self._answered(principal, batch, line)
                entry = _entry(line, status, request_id, body)
                (out if status == 200 else bad).write(entry)
                if status == 200:
                    batch.completed += 1
                else:
                    batch.failed += 1

        try:
            async with (
                asyncio.timeout(batch.expires_at - time.time()),
                asyncio.TaskGroup() as group,
            ):
                for _ in range(min(_AT_ONCE, len(lines))):
                    group.create_task(worker())
        except TimeoutError:
            return "expired"
        except asyncio.CancelledError:
            # Who cancels a batch wants what it has answered; who stops the server is not waited for.
            if batch.status != "cancelling":
                raise
            return "cancelled"
        self._mark(batch, "finalizing")
        return "completed"

    async def _answered(
        self, principal: Principal, batch: Batch, line: _Line
    ) -> tuple[int, str, bytes]:
        while True:
            status, request_id, body = await self._answer(
                principal, batch.endpoint, bytes(line.body)
            )
            # A batch has time: what is refused for lack of room is sent again.
            if status not in (429, 503):
                return status, request_id, body
            await asyncio.sleep(_RETRY_SECONDS)

    def _read(self, batch: Batch, source: StoredFile) -> list[_Line]:
        """The lines of a batch's file; `batch.errors` says what is wrong with it."""
        lines: list[_Line] = []
        errors: list[LineError] = []
        seen: set[str] = set()
        decoder = msgspec.json.Decoder(_Line)
        with self._files.path(source).open("rb") as file:
            for number, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                try:
                    line = decoder.decode(text)
                    _check(line, batch.endpoint, seen)
                except (msgspec.MsgspecError, UnicodeDecodeError, InvalidRequestError) as error:
                    errors.append(LineError("invalid_json_line", str(error), number))
                else:
                    lines.append(line)
                if len(errors) >= _SHOWN_ERRORS or len(lines) > MAX_LINES:
                    break
        if len(lines) > MAX_LINES:
            errors.append(LineError("too_many_requests", f"at most {MAX_LINES} lines are allowed"))
        if not (lines or errors):
            errors.append(LineError("empty_file", "the file holds no requests"))
        batch.errors = errors
        return lines

    def _mark(self, batch: Batch, status: str) -> None:
        batch.status = status
        batch.times = {**batch.times, f"{status}_at": int(time.time())}
        self.records.save(batch)


def _check(line: _Line, endpoint: str, seen: set[str]) -> None:
    if line.custom_id in seen:
        raise InvalidRequestError(f"custom_id {line.custom_id!r} is there twice")
    if line.method != "POST" or line.url != endpoint:
        raise InvalidRequestError(f"the request is not a POST to {endpoint}")
    seen.add(line.custom_id)


def _entry(line: _Line, status: int, request_id: str, body: bytes) -> bytes:
    entry: dict[str, Any] = {
        "id": f"batch_req_{secrets.token_hex(12)}",
        "custom_id": line.custom_id,
        "response": {"status_code": status, "request_id": request_id, "body": msgspec.Raw(body)},
        "error": None,
    }
    return msgspec.json.encode(entry) + b"\n"
