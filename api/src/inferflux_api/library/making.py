"""Files that the backend makes for the library: quantized, or converted from safetensors."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

import msgspec

from inferflux_api.library.store import LibraryStore, Manifest, check_digest, new_manifest
from inferflux_api.library.transfer import Progress
from inferflux_core.errors import InvalidRequestError
from inferflux_core.models.file_maker import check_makes_files, make_file
from inferflux_core.specs import BackendSpec, FileRecipe

__all__ = ["converted", "quantized"]

_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


async def quantized(
    store: LibraryStore, backend: BackendSpec, manifest: Manifest, kind: str
) -> AsyncGenerator[Progress | Manifest, None]:
    """Make the file of a model smaller; the last thing that comes is its new manifest.

    Raises:
        InvalidRequestError: this backend cannot do it.
    """
    source = store.path(manifest.model)
    async for step in _made(store, backend, source, f"quantizing model to {kind}", kind):
        if isinstance(step, Progress):
            yield step
        else:
            yield msgspec.structs.replace(manifest, model=step[0], size=step[1])


async def converted(
    store: LibraryStore, backend: BackendSpec, name: str, files: dict[str, str], kind: str | None
) -> AsyncGenerator[Progress | Manifest, None]:
    """Make a model of safetensors that were uploaded; the last thing that comes is its manifest.

    Args:
        store: has the files, and gets the model.
        backend: does it.
        name: of the model.
        files: digests by file name.
        kind: quantization, if its weights shall not stay as they are.

    Raises:
        InvalidRequestError: a file is missing, or the model cannot be converted.
    """
    folder = store.new_path()
    try:
        await asyncio.to_thread(_lay_out, store, folder, files)
        async for step in _made(store, backend, folder, "converting model", kind):
            yield step if isinstance(step, Progress) else new_manifest(name, *step)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    store.discard(map(check_digest, files.values()))


async def _made(
    store: LibraryStore, backend: BackendSpec, source: Path, status: str, kind: str | None
) -> AsyncGenerator[Progress | tuple[str, int], None]:
    """Make a file; the last thing that comes is its digest and size."""
    check_makes_files(backend)
    target = store.new_path()
    try:
        yield Progress(status)
        async for share in make_file(backend, FileRecipe(source, target, kind)):
            yield Progress(status, total=100, completed=round(100 * share))
        yield await asyncio.to_thread(store.adopt, target)
    finally:
        target.unlink(missing_ok=True)


def _lay_out(store: LibraryStore, folder: Path, files: dict[str, str]) -> None:
    """A folder in which blobs have names."""
    folder.mkdir(mode=0o700)
    for name, digest in files.items():
        if not _FILE_NAME.fullmatch(name):
            raise InvalidRequestError(f"{name[:128]!r} is no name of a file", param="files")
        (folder / name).hardlink_to(store.required(digest, "files"))
