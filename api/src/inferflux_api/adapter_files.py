"""Where adapters may come from, and the folder that is watched for them."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from inferflux_core.config.schema import ModelConfig
from inferflux_core.encrypted_adapters import SUFFIX
from inferflux_core.errors import InvalidRequestError, NotFoundError, StartupError
from inferflux_core.models import reference
from inferflux_core.models.folder.adapter import ADAPTER_FILES, is_adapter_folder

__all__ = [
    "AdapterFolder",
    "FileVersion",
    "allowed_file",
    "allowed_folders",
    "check_name",
    "version_of",
]

FileVersion = tuple[int, int, int]
"""Inode, size and time of the last change: other content means another one of them."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
_SETTLED_SECONDS: Final = 2.0


def check_name(name: str) -> None:
    """Refuse names that would be hard to use as `model` of a request.

    Raises:
        InvalidRequestError: it is one.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequestError(
            "an adapter's name has 1 to 128 letters, digits and ._:/@+- and begins with a letter or digit",
            param="lora_name",
        )


def allowed_folders(model: ModelConfig) -> list[Path]:
    """Where a request may load adapters from.

    An admin key should not be a key to every file of the machine. So it is `adapters_folder` if that is
    set, else the folders of the configured adapters and that of the model.
    """
    if model.adapters_folder is not None:
        return [Path(model.adapters_folder).expanduser().resolve()]
    folders = [Path(adapter.path).expanduser().resolve().parent for adapter in model.adapters]
    if model.path is not None:
        # If there is something wrong with its path, loading the model will say so.
        with suppress(StartupError):
            folders.append(reference.resolve(model.path).resolve().parent)
    return folders


def allowed_file(text: str, folders: Sequence[Path]) -> Path:
    """The file or folder that a request means; a relative path begins in one of `folders`.

    Raises:
        InvalidRequestError: it is outside of `folders`, wherever its links lead, or no adapter.
        NotFoundError: it does not exist.
    """
    try:
        inside = [
            path
            for path in ((folder / text).resolve() for folder in folders)
            if any(path.is_relative_to(folder) for folder in folders)
        ]
        if not inside:
            where = " or ".join(map(str, folders)) or "nowhere: set `adapters_folder` of the model"
            raise InvalidRequestError(
                f"adapters are loaded from {where} only; put the file there", param="lora_path"
            )
        found = next((path for path in inside if path.exists()), None)
    except (OSError, ValueError, RuntimeError) as error:
        raise InvalidRequestError(
            f"lora_path cannot be used: {error}", param="lora_path"
        ) from error
    if found is None:
        raise NotFoundError(f"there is no file {text} on the server", param="lora_path")
    if not (found.is_file() or _is_complete(found)):
        raise InvalidRequestError(
            f"{text} is not a regular file; lora_path names a .gguf or {SUFFIX} file, or a folder with "
            f"{' and '.join(ADAPTER_FILES)}",
            param="lora_path",
        )
    return found


def _is_complete(folder: Path) -> bool:
    """Whether it is an adapter's folder, none of whose files is a link that leads elsewhere."""
    return is_adapter_folder(folder) and all(
        (folder / name).resolve().parent == folder.resolve() for name in ADAPTER_FILES
    )


def version_of(path: Path) -> FileVersion | None:
    """What a file or an adapter's folder is like now; None if it cannot be looked at."""
    try:
        files = [path / name for name in ADAPTER_FILES] if path.is_dir() else [path]
        states = [file.stat() for file in files]
    except OSError:
        return None
    newest = max(states, key=lambda state: state.st_mtime_ns)
    return newest.st_ino, sum(state.st_size for state in states), newest.st_mtime_ns


@dataclass(slots=True)
class AdapterFolder:
    """Tells what is in a folder, and which files nobody writes to any more.

    Attributes:
        path: the folder.
    """

    path: Path
    _last: dict[Path, FileVersion] = field(default_factory=dict)

    def scan(self) -> dict[Path, FileVersion | None]:
        """Its adapters, plain and encrypted, and their versions; None for one that may not be complete yet.

        A file is complete if it has not changed since the last scan, or for two seconds.

        Raises:
            OSError: the folder cannot be read.
        """
        now = time.time()
        found: dict[Path, FileVersion] = {}
        for path in sorted(self.path.iterdir()):
            is_adapter = path.name.endswith((".gguf", SUFFIX)) and path.is_file()
            if (is_adapter or _is_complete(path)) and (version := version_of(path)):
                found[path] = version
        settled = {
            path: version
            if self._last.get(path) == version or now - version[2] / 1e9 > _SETTLED_SECONDS
            else None
            for path, version in found.items()
        }
        self._last = found
        return settled
