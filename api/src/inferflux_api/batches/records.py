"""What is known about batches, and where it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from inferflux_api.files import write_atomically
from inferflux_core.errors import NotFoundError

__all__ = ["ENDED", "Batch", "BatchRecords", "LineError"]

ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})


class LineError(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is wrong with a batch, or with a line of its file."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Batch(msgspec.Struct, kw_only=True):
    """A batch. Times are in seconds since 1970; one that has not come is None.

    Attributes:
        id: as clients name it.
        tenant: whose it is.
        endpoint: that every line is for.
        input_file_id: the requests.
        completion_window: as the client gave it.
        created_at: when it came.
        expires_at: when what is not answered by then is given up.
        status: as OpenAI names it.
        output_file_id: the answers.
        error_file_id: the refusals and failures.
        errors: why it failed as a whole.
        total: lines.
        completed: lines that were answered.
        failed: lines that were refused, or failed.
        metadata: of the client.
        times: of the other changes of status, by field name, e.g. `completed_at`.
    """

    id: str
    tenant: str
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: int
    expires_at: int
    status: str = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: list[LineError] = []
    total: int = 0
    completed: int = 0
    failed: int = 0
    metadata: dict[str, Any] | None = None
    times: dict[str, int] = {}


class BatchRecords:
    """Batches by id, in files beside the ones they read and write.

    A batch that was running when the server ended has failed: what it had answered is lost.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._batches: dict[str, Batch] = {}
        for path in folder.glob("batch_*.json"):
            try:
                batch = msgspec.json.decode(path.read_bytes(), type=Batch)
            except (OSError, msgspec.MsgspecError):
                continue
            if batch.status not in ENDED:
                batch.status = "failed"
                batch.errors = [
                    LineError("server_restarted", "the server was restarted; send it again")
                ]
            self._batches[batch.id] = batch

    def save(self, batch: Batch) -> None:
        """Keep what is known now."""
        self._batches[batch.id] = batch
        write_atomically(self._folder / f"{batch.id}.json", msgspec.json.encode(batch))

    def get(self, tenant: str, batch_id: str) -> Batch:
        """One batch.

        Raises:
            NotFoundError: there is none of that id for this tenant.
        """
        batch = self._batches.get(batch_id)
        if batch is None or batch.tenant != tenant:
            raise NotFoundError(f"there is no batch '{batch_id[:64]}'", param="batch_id")
        return batch

    def of_tenant(self, tenant: str) -> list[Batch]:
        """A tenant's batches, the newest first."""
        found = [batch for batch in self._batches.values() if batch.tenant == tenant]
        return sorted(found, key=lambda b: (b.created_at, b.id), reverse=True)
