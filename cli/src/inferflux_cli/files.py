"""Files that a command line names."""

from __future__ import annotations

from pathlib import Path

from inferflux_cli.errors import CliError

__all__ = ["read_text"]


def read_text(path: Path) -> str:
    """Return what a file says.

    Raises:
        CliError: it cannot be read, or is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise CliError(f"{path} is not text in UTF-8") from error
