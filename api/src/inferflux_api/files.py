"""Files that clients upload and that batches write, in one folder, each for one tenant's eyes."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Final

import msgspec

from inferflux_core.errors import (
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    StartupError,
)

__all__ = ["FileStore", "StoredFile", "write_atomically"]

_ID: Final = re.compile(r"file-[0-9a-f]{24}")
_CHUNK: Final = 1 << 20


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a file.

    Attributes:
        id: as clients name it.
        tenant: whose it is.
        filename: as it was uploaded; says nothing about where it lies.
        purpose: e.g. `batch`.
        size: in bytes.
        created_at: seconds since 1970.
    """

    id: str
    tenant: str
    filename: str
    purpose: str
    size: int
    created_at: int


class FileStore:
    """Keeps files until they are deleted. What is there is there whole: files appear by renaming.

    Args:
        folder: where; None keeps them for as long as the store lives.
        max_bytes: of all files together.

    Raises:
        StartupError: the folder cannot be used.
    """

    def __init__(self, folder: str | None, max_bytes: int) -> None:
        self._temporary = TemporaryDirectory(prefix="inferflux-files-") if folder is None else None
        self.folder = Path(self._temporary.name if self._temporary else str(folder)).expanduser()
        self._max_bytes = max_bytes
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for leftover in self.folder.glob("*.part"):
                leftover.unlink()
            found = (_read(path) for path in self.folder.glob("file-*.json"))
            self._files = {file.id: file for file in found if file is not None}
        except OSError as error:
            raise StartupError(
                f"cannot keep files in {self.folder}: {error.strerror}",
                hint="set `files.path` to a folder that the server may write to",
            ) from error

    def close(self) -> None:
        """Forget what was kept for the life of the store only."""
        if self._temporary is not None:
            self._temporary.cleanup()

    def of_tenant(self, tenant: str, purpose: str | None = None) -> list[StoredFile]:
        """A tenant's files, the newest first."""
        found = [f for f in self._files.values() if f.tenant == tenant]
        kept = [f for f in found if purpose in (None, f.purpose)]
        return sorted(kept, key=lambda f: (f.created_at, f.id), reverse=True)

    def get(self, tenant: str, file_id: str) -> StoredFile:
        """One file.

        Raises:
            NotFoundError: there is none of that id for this tenant.
        """
        file = self._files.get(file_id)
        if file is None or file.tenant != tenant:
            raise NotFoundError(f"there is no file '{file_id[:64]}'", param="file_id")
        return file

    def path(self, file: StoredFile) -> Path:
        """Where its bytes are."""
        return self.folder / f"{file.id}.data"

    def delete(self, tenant: str, file_id: str) -> None:
        """Forget a file.

        Raises:
            NotFoundError: there is none of that id for this tenant.
        """
        file = self.get(tenant, file_id)
        del self._files[file.id]
        (self.folder / f"{file.id}.json").unlink(missing_ok=True)
        self.path(file).unlink(missing_ok=True)

    def add(self, tenant: str, filename: str, purpose: str, source: IO[bytes]) -> StoredFile:
        """Keep what `source` holds from its present position on.

        Raises:
            PayloadTooLargeError: there is no room for it.
            InvalidRequestError: the disk refuses it.
        """
        with self.writing(tenant, filename, purpose) as (target, done):
            try:
                shutil.copyfileobj(source, target, _CHUNK)
            except OSError as error:
                raise InvalidRequestError(
                    f"the file cannot be kept: {error.strerror}", param="file"
                ) from error
        return done[0]

    @contextmanager
    def writing(
        self, tenant: str, filename: str, purpose: str
    ) -> Iterator[tuple[IO[bytes], list[StoredFile]]]:
        """Write a file; it is kept if the block ends well, and then in the list that comes along.

        Raises:
            PayloadTooLargeError: there is no room for it.
        """
        file_id = f"file-{secrets.token_hex(12)}"
        part = self.folder / f"{file_id}.part"
        done: list[StoredFile] = []
        try:
            with part.open("xb") as target:
                yield target, done
                target.flush()
                os.fsync(target.fileno())
                size = target.tell()
            if size + sum(f.size for f in self._files.values()) > self._max_bytes:
                raise PayloadTooLargeError(
                    f"there is no room for {size} more bytes (`files.max_bytes`); delete files",
                    param="file",
                )
            file = StoredFile(
                id=file_id,
                tenant=tenant,
                filename=filename,
                purpose=purpose,
                size=size,
                created_at=int(time.time()),
            )
            part.replace(self.path(file))
            write_atomically(self.folder / f"{file_id}.json", msgspec.json.encode(file))
            self._files[file_id] = file
            done.append(file)
        finally:
            part.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a small file at once."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as target:
        target.write(content)
        target.flush()
        os.fsync(target.fileno())
    part.replace(path)


def _read(path: Path) -> StoredFile | None:
    """A record whose bytes are there as it says; anything else is not ours, or not whole."""
    try:
        file = msgspec.json.decode(path.read_bytes(), type=StoredFile)
    except (OSError, msgspec.MsgspecError):
        return None
    data = path.with_suffix(".data")
    whole = data.is_file() and not data.is_symlink() and data.stat().st_size == file.size
    return file if whole and _ID.fullmatch(file.id) and path.stem == file.id else None
