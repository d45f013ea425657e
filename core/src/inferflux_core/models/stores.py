"""What the folders of other programs have in common: names to check, and files to choose from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.folder.layout import is_model_folder, weight_files

__all__ = [
    "choose_file",
    "kept_inside",
    "name_parts",
    "part_paths",
    "repository_name",
    "repository_parts",
    "without_part",
]

_PART: Final = re.compile(r"-(\d{5})-of-(\d{5})(?=\.gguf$)", re.IGNORECASE)
_PROJECTOR: Final = "mmproj"


def name_parts(reference: str, rest: str) -> list[str]:
    """The parts of a name between slashes, none of which can lead anywhere else.

    Args:
        reference: the whole reference, for the message.
        rest: it without its scheme.

    Raises:
        ModelLoadError: a part is empty, `.` or `..`, or has characters that some system reads as a path.
    """
    parts = rest.split("/")
    for part in parts:
        if part in ("", ".", "..") or any(c in '\\:*?"<>|' or ord(c) < 32 for c in part):
            raise ModelLoadError(
                f"{reference!r} is not a name of a model",
                hint="see docs/models.md for the forms that `model.path` may have",
            )
    return parts


def repository_parts(reference: str, scheme: str, example: str) -> list[str]:
    """Owner, repository and the parts of a file's name, of a reference like `scheme://owner/repo[/file]`.

    Raises:
        ModelLoadError: it is of another form.
    """
    parts = name_parts(reference, reference.removeprefix(scheme))
    if len(parts) < 2:
        raise ModelLoadError(
            f"{reference} is not of the form {scheme}org/repo or {scheme}org/repo/file",
            hint=f"for example {scheme}{example}",
        )
    return parts


def repository_name(parts: list[str]) -> str:
    """What to call a model of `repository_parts`: as its file, or else as its repository."""
    _, repo, *file = parts
    return without_part(file[-1]) if file else _folder_name(repo)


def kept_inside(store: Path, path: Path) -> Path:
    """The same path, if it is a regular file that lies in the store once links are followed.

    Raises:
        ModelLoadError: it is something else, or lies elsewhere.
    """
    real = path.resolve()
    if not real.is_relative_to(store.resolve()):
        raise ModelLoadError(
            f"{path} leads out of {store}", hint=f"set `model.path` to {real} if you trust it"
        )
    if not real.is_file():
        raise ModelLoadError(f"{path} is not a file", hint="download the model again")
    return path


def _kept_whole(store: Path, folder: Path) -> Path:
    """The same folder, if nothing in it is a link that leads out of the store, or to a folder."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            kept_inside(store, path)
    return folder


def choose_file(reference: str, store: Path, folder: Path, wanted: list[str]) -> Path:
    """The model of a folder: the file that is named, or else the only one, or else the folder itself.

    Of a split model that is its first part. A folder is a model if it has weights in safetensors.

    Args:
        reference: for messages.
        store: which the file must not leave.
        folder: of the model.
        wanted: the file's name below it, in parts; empty for the only one.

    Raises:
        ModelLoadError: there is none, or more than one to choose from.
    """
    if wanted:
        path = folder.joinpath(*wanted)
        if is_model_folder(path):
            return _kept_whole(store, path)
        if path.exists():
            return kept_inside(store, path)
    found = sorted(path.relative_to(folder).as_posix() for path in _models(folder))
    if not wanted and len(found) == 1:
        return kept_inside(store, folder / found[0])
    if not wanted and not found and is_model_folder(folder):
        return _kept_whole(store, folder)
    if not found:
        raise ModelLoadError(
            f"{reference}: {folder} holds no GGUF file, and no safetensors with a config.json",
            hint="download one of the model's GGUF files, or the whole repository",
        )
    problem = f"has no {'/'.join(wanted)}" if wanted else f"stands for {len(found)} files"
    base = reference.removesuffix("/" + "/".join(wanted))
    raise ModelLoadError(
        f"{reference} {problem}",
        hint="choose one: " + ", ".join(f"{base}/{name}" for name in found),
    )


def part_paths(path: Path) -> list[Path]:
    """The files of a model's weights: all parts, if the name is that of a split model's part."""
    if path.is_dir():
        return weight_files(path)
    match = _PART.search(path.name)
    if match is None:
        return [path]
    count = int(match[2])
    return [
        path.with_name(_PART.sub(f"-{number:05d}-of-{count:05d}", path.name))
        for number in range(1, count + 1)
    ]


def without_part(name: str) -> str:
    """A file's name without the mark of a split model's part, and without `.gguf`."""
    return re.sub(r"\.gguf$", "", _PART.sub("", name), flags=re.IGNORECASE)


def _folder_name(name: str) -> str:
    """A repository's name without the suffix that only says what kind of files it holds."""
    return re.sub(r"[-_.]gguf$", "", name, flags=re.IGNORECASE)


def _models(folder: Path) -> Iterable[Path]:
    """The GGUF files of a folder that one can load: neither later parts nor projectors of images."""
    for path in folder.rglob("*"):
        is_gguf = path.suffix.lower() == ".gguf" and not path.name.lower().startswith(_PROJECTOR)
        part = _PART.search(path.name)
        if is_gguf and (part is None or int(part[1]) == 1):
            yield path
