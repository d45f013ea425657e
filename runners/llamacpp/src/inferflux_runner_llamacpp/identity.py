"""Names for what results depend on: files, the build of llama.cpp. Imports no native library."""

from __future__ import annotations

from pathlib import Path

from inferflux_runner_llamacpp.library import library_folder

__all__ = ["build_files", "file_identity"]


def file_identity(path: Path) -> str:
    """A string that changes when the file does, or its place."""
    status = path.stat()
    return f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"


def build_files() -> list[Path]:
    """The libraries that make up the installed build of llama.cpp."""
    folder = library_folder()
    return sorted(folder.iterdir()) if folder and folder.is_dir() else []
