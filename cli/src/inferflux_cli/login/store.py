"""The file that keeps logins: private, replaced as a whole, changed by one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2

from inferflux_cli.errors import CliError
from inferflux_cli.files import read_text
from inferflux_cli.login.tokens import Login
from inferflux_cli.shapes import as_object

__all__ = ["find", "forget", "keep", "locked"]

_FILE = "logins.json"


def find(url: str) -> Login | None:
    """Return the login for a server, None if there is none.

    Raises:
        CliError: the file cannot be read, others can read it, or it is damaged.
    """
    kept = _read().get(_name(url))
    if kept is None:
        return None
    login = Login.from_json(as_object(kept))
    if login is None:
        raise _damaged()
    return login


def keep(url: str, login: Login) -> None:
    """Keep a login in place of the one before. Call it while `locked`.

    Raises:
        CliError: the file cannot be written.
    """
    _write({**_read(), _name(url): login.to_json()})


def forget(url: str) -> None:
    """Remove a login, if there is one. Call it while `locked`.

    Raises:
        CliError: the file cannot be written.
    """
    kept = _read()
    if kept.pop(_name(url), None) is not None:
        _write(kept)


@contextmanager
def locked() -> Iterator[None]:
    """Keep other processes from changing the file, and from refreshing the same token.

    Raises:
        CliError: there can be no such file.
    """
    folder = _folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / f"{_FILE}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CliError(f"cannot keep logins in {folder}: {error.strerror}") from error
    try:
        # Given up when the file is closed, even if this process dies.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _folder() -> Path:
    base = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    # The XDG specification has relative values ignored.
    return (base if base.is_absolute() else Path.home() / ".config") / "inferctl"


def _name(url: str) -> str:
    """A server's address, always written the same way."""
    return str(httpx2.URL(url)).rstrip("/")


def _read() -> dict[str, Any]:
    path = _folder() / _FILE
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from error
    if mode & 0o077:
        raise CliError(
            f"others can read or write {path}, which holds tokens", hint=f"chmod 600 {path}"
        )
    with suppress(ValueError, RecursionError):
        found = json.loads(read_text(path))
        if isinstance(found, dict):
            return found
    raise _damaged()


def _damaged() -> CliError:
    path = _folder() / _FILE
    return CliError(f"{path} is damaged", hint="remove it and log in again: inferctl login")


def _write(kept: dict[str, Any]) -> None:
    folder = _folder()
    try:
        # Created with mode 0600.
        handle, temporary = tempfile.mkstemp(prefix=_FILE, dir=folder)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(kept, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(folder / _FILE)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CliError(f"cannot keep logins in {folder}: {error.strerror}") from error
