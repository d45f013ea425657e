"""Blobs by digest, and manifests that give them names."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote

import msgspec

from inferflux_api.files import write_atomically
from inferflux_core.errors import InvalidRequestError, StartupError

__all__ = ["BlobWriter", "LibraryStore", "Manifest", "check_digest", "new_manifest"]

_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-f]{64})")
_CHUNK: Final = 1 << 20
_MAKING: Final = "making-"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the library.

    Attributes:
        name: canonical.
        model: digest of its GGUF file.
        size: of that file, in bytes.
        adapters: digests of LoRA adapters that are a part of it.
        created_at: seconds since 1970.
        source: where it came from.
        template: Ollama's, in Go, as it was pulled; shown, never rendered: the file's own Jinja template is.
        chat_template: in Jinja, in the place of the file's own.
        system: message of requests that bring none.
        messages: turns before every conversation.
        parameters: options of requests that bring none, by Ollama's names.
        license: texts.
    """

    name: str
    model: str
    size: int
    created_at: float
    adapters: list[str] = []
    source: str = ""
    template: str = ""
    chat_template: str = ""
    system: str = ""
    messages: list[dict[str, Any]] = []
    parameters: dict[str, Any] = {}
    license: list[str] = []


def check_digest(digest: str) -> str:
    """A digest in the form `sha256:HEX`.

    Raises:
        InvalidRequestError: it is none.
    """
    found = _DIGEST.fullmatch(digest)
    if found is None:
        raise InvalidRequestError("a digest is sha256: and 64 hexadecimal digits", param="digest")
    return f"sha256:{found[1]}"


class BlobWriter:
    """Writes one blob, going on where an earlier attempt has stopped.

    Attributes:
        written: bytes so far.
    """

    def __init__(self, file: IO[bytes], digest: Any, written: int) -> None:
        self._file = file
        self._digest = digest
        self.written = written

    def restart(self) -> None:
        """Begin anew."""
        self._file.seek(0)
        self._file.truncate()
        self._digest = hashlib.sha256()
        self.written = 0

    async def write(self, data: bytes) -> None:
        """Add bytes.

        Raises:
            InvalidRequestError: the disk refuses them.
        """
        try:
            await asyncio.to_thread(self._write, data)
        except OSError as error:
            raise InvalidRequestError(f"the file cannot be kept: {error.strerror}") from error
        self.written += len(data)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)

    def digest(self) -> str:
        """Of what was written."""
        return f"sha256:{self._digest.hexdigest()}"


class LibraryStore:
    """The library's folder. Files appear by renaming, so what has a name is whole.

    Args:
        folder: made if it does not exist.

    Raises:
        StartupError: it cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._blobs, self._manifests = folder / "blobs", folder / "manifests"
        try:
            for each in (self._blobs, self._manifests):
                each.mkdir(mode=0o700, parents=True, exist_ok=True)
            for leftover in self._blobs.glob(f"{_MAKING}*"):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            found = (self._read(path) for path in sorted(self._manifests.glob("*.json")))
            self._known = {manifest.name: manifest for manifest in found if manifest is not None}
        except OSError as error:
            raise StartupError(
                f"the model library {folder} cannot be used: {error.strerror}",
                hint="set `library.path` to a folder that the server may write to",
            ) from error
        self._locks: dict[str, asyncio.Lock] = {}

    def __iter__(self) -> Iterator[Manifest]:
        return iter(self._known.values())

    def find(self, name: str) -> Manifest | None:
        """The model of that name, whatever its case."""
        return next((m for m in self if m.name.lower() == name.lower()), None)

    def put(self, manifest: Manifest) -> None:
        """Keep a model under its name, in the place of another of that name.

        Raises:
            InvalidRequestError: its file is not there, or the disk refuses.
        """
        if not self._is_whole(manifest):
            raise InvalidRequestError("a file of the model is not there any more", param="files")
        before = self.find(manifest.name)
        try:
            if manifest.chat_template:
                write_atomically(self.template_path(manifest), manifest.chat_template.encode())
            write_atomically(self._file_of(manifest.name), msgspec.json.encode(manifest))
        except OSError as error:
            raise InvalidRequestError(f"the model cannot be kept: {error.strerror}") from error
        self._known[manifest.name] = manifest
        if before is None:
            return
        if before.name != manifest.name:
            self.delete(before)
        else:
            self._prune(before)

    def delete(self, manifest: Manifest) -> None:
        """Forget a model, and its file if no other has the same."""
        self._known.pop(manifest.name, None)
        self._file_of(manifest.name).unlink(missing_ok=True)
        self._prune(manifest)

    def path(self, digest: str) -> Path:
        """Where a blob is, or would be."""
        return self._blobs / check_digest(digest).replace(":", "-")

    def has(self, digest: str) -> bool:
        """Whether a blob is there."""
        path = self.path(digest)
        return path.is_file() and not path.is_symlink()

    def required(self, digest: str, param: str) -> Path:
        """Where a blob is that must have been uploaded.

        Raises:
            InvalidRequestError: it was not.
        """
        if not self.has(digest):
            raise InvalidRequestError(f"there is no blob {digest}; upload it first", param=param)
        return self.path(digest)

    @asynccontextmanager
    async def writing(self, digest: str) -> AsyncIterator[BlobWriter]:
        """Write a blob; it is there once the block has ended well and the digest is right.

        What was written stays when the block fails, for another attempt.

        Raises:
            InvalidRequestError: the bytes have another digest; they are thrown away.
        """
        digest = check_digest(digest)
        async with self._locks.setdefault(digest, asyncio.Lock()):
            part = self.path(digest).with_suffix(".part")
            with part.open("a+b") as file:
                writer = await asyncio.to_thread(_resumed, file)
                yield writer
                if self.has(digest):
                    part.unlink(missing_ok=True)
                    return
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            if writer.digest() != digest:
                part.unlink(missing_ok=True)
                raise InvalidRequestError(
                    f"the file has the digest {writer.digest()}, not {digest}", param="digest"
                )
            part.replace(self.path(digest))

    def discard(self, digests: Iterable[str]) -> None:
        """Remove files, but for those that a model has."""
        used = {digest for manifest in self for digest in (manifest.model, *manifest.adapters)}
        for digest in set(digests) - used:
            self.path(digest).unlink(missing_ok=True)

    def new_path(self) -> Path:
        """Where something can be made that is adopted, or removed, afterwards."""
        return self._blobs / f"{_MAKING}{secrets.token_hex(8)}"

    def adopt(self, path: Path) -> tuple[str, int]:
        """Keep a file that is whole, by moving it; returns its digest and size in bytes."""
        with path.open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        size = path.stat().st_size
        if self.has(digest):
            # Renaming one name of a file to another of its names would do nothing.
            path.unlink()
        else:
            path.replace(self.path(digest))
        return digest, size

    def template_path(self, manifest: Manifest) -> Path:
        """Where the chat template of a model is that has one of its own."""
        return self.path(f"sha256:{hashlib.sha256(manifest.chat_template.encode()).hexdigest()}")

    def _prune(self, gone: Manifest) -> None:
        """Remove the files of a model that no other has."""
        self.discard([gone.model, *gone.adapters])
        if not any(manifest.chat_template == gone.chat_template for manifest in self):
            self.template_path(gone).unlink(missing_ok=True)

    def _is_whole(self, manifest: Manifest) -> bool:
        return all(map(self.has, (manifest.model, *manifest.adapters)))

    def _file_of(self, name: str) -> Path:
        return self._manifests / f"{quote(name, safe=':')}.json"

    def _read(self, path: Path) -> Manifest | None:
        """A manifest whose file is there; anything else is not ours."""
        try:
            manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
            there = self._file_of(manifest.name) == path and self._is_whole(manifest)
        except (OSError, msgspec.MsgspecError, InvalidRequestError):
            return None
        return manifest if there else None


def new_manifest(name: str, digest: str, size: int, **rest: Any) -> Manifest:
    """A manifest of now."""
    return Manifest(
        name=name, model=check_digest(digest), size=size, created_at=time.time(), **rest
    )


def _resumed(file: IO[bytes]) -> BlobWriter:
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return BlobWriter(file, digest, file.tell())
