"""Signing a model: the reverse of `verification`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from inferflux_core.encrypted_adapters.files import write_new
from inferflux_core.errors import ModelLoadError
from inferflux_core.model_signing.bundle import write_bundle
from inferflux_core.model_signing.files import digest_file, list_files
from inferflux_core.model_signing.statement import WHOLE, Manifest, write_statement
from inferflux_core.model_signing.verification import FOLDER_SIGNATURE, SUFFIX, Watch
from inferflux_core.models.stores import part_paths

if TYPE_CHECKING:
    from inferflux_core.model_signing.keys import SigningKey

__all__ = ["sign_model", "write_public"]

# OpenSSF's verifier ignores these, so a signature that lists them would fail there.
_OF_GIT: Final = (".git", ".gitattributes", ".github", ".gitignore")


def sign_model(
    path: Path, key: SigningKey, signature: Path | None, ignored: Iterable[str], watch: Watch
) -> tuple[Path, Manifest]:
    """Sign a file, all parts of a split model, or all files of a folder.

    Args:
        path: the file, the first part, or the folder.
        key: to sign with.
        signature: a new file; None for `NAME.sig` beside a file, or `model.sig` in a folder.
        ignored: files and folders to leave out, relative to the folder.
        watch: told how much there is to read, and how far it is.

    Returns:
        The file that was written, and what it says.

    Raises:
        ModelLoadError: there is nothing to sign, or a link, or `ignored` makes no sense.
        OSError: a file cannot be read or written, or `signature` exists.
    """
    path = path.absolute()
    target = signature.absolute() if signature else _beside(path)
    left_out: tuple[str, ...] = ()
    if path.is_dir():
        left_out = (*_OF_GIT, *_inside(path, target), *map(_plain, ignored))
        files = list_files(path, Manifest({}, left_out).ignores, allow_symlinks=False)
        if not files:
            raise ModelLoadError(f"{path.name} holds no files to sign", hint="check the path")
    elif tuple(ignored):
        raise ModelLoadError(f"{path.name} is a file", hint="only of a folder, files are left out")
    else:
        parts = part_paths(path)
        files = {part.name: part for part in parts} if len(parts) > 1 else {WHOLE: path}
    if os.path.lexists(target):
        raise FileExistsError(17, "exists already; choose another name", str(target))
    progress = watch(sum(file.stat().st_size for file in files.values()))
    digests = {name: digest_file(file, progress)[0] for name, file in files.items()}
    manifest = Manifest(digests, left_out)
    write_public(target, write_bundle(write_statement(path.name, manifest), key))
    return target, manifest


def write_public(target: Path, content: bytes) -> None:
    """Write a new file that others may read.

    Raises:
        OSError: it exists, or cannot be written.
    """
    with write_new(target) as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(content)


def _beside(path: Path) -> Path:
    if path.is_dir():
        return path / FOLDER_SIGNATURE
    return path.with_name(path.name + SUFFIX)


def _inside(folder: Path, target: Path) -> tuple[str, ...]:
    """The name of the signature in the folder, if it will be there."""
    if not target.is_relative_to(folder):
        return ()
    return (target.relative_to(folder).as_posix(),)


def _plain(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) == WHOLE:
        raise ModelLoadError(
            f"{name!r} is not a path inside the model's folder",
            hint="name what to leave out relative to the folder",
        )
    return str(path)
