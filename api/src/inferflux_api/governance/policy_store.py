"""The policy store: one file that holds the policy, sealed if there is a passphrase.

A file is replaced as a whole, under a lock, and only by whoever has read its present generation. A
crash at any point leaves the old policy or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from inferflux_api.governance.policy import Policy, decode_policy
from inferflux_api.governance.sealing import MAGIC, seal, unseal
from inferflux_core.errors import ConfigError

__all__ = ["PASSPHRASE", "PolicyStore"]

PASSPHRASE: Final = "INFERFLUX_POLICY_PASSPHRASE"  # noqa: S105 - the name of a variable
_MIN_PASSPHRASE: Final = 16
_MAX_BYTES: Final = 64 * 1024 * 1024
_LOOK: Final = "free some space or correct the permissions, then see with `show` what is in place"


class PolicyStore:
    """A policy file.

    Args:
        path: the file; beside it live `PATH.lock` and, during a change, `PATH.tmp`.
        passphrase: seals the file; None or empty for a readable one.

    Raises:
        ConfigError: the passphrase is short.
    """

    def __init__(self, path: Path, passphrase: str | None) -> None:
        if passphrase and len(passphrase) < _MIN_PASSPHRASE:
            raise ConfigError(
                f"{PASSPHRASE}: shorter than {_MIN_PASSPHRASE} characters",
                hint="use a long random one, such as that of `openssl rand -base64 24`",
            )
        self.path = path
        self.sealed = bool(passphrase)
        self._passphrase = passphrase or ""

    def load(self) -> Policy:
        """Read the policy.

        Raises:
            ConfigError: there is none, it is not safe to use, or it cannot be opened.
        """
        try:
            return self._decode(self._read())
        except FileNotFoundError:
            command = f"python -m inferflux_api.policy init --store {shlex.quote(str(self.path))}"
            raise ConfigError(f"{self.path}: does not exist", hint=f"run: {command}") from None
        except OSError as error:
            raise self._error(f"cannot be read: {error.strerror}") from None

    def commit(self, policy: Policy) -> Policy:
        """Write `policy` as the generation that follows its own; generation 0 makes a new file.

        Raises:
            ConfigError: the file is not of that generation, or cannot be written; it is then
                unchanged, unless all that failed is the last step, which makes the change durable.
        """
        successor = replace(policy, generation=policy.generation + 1)
        data = self._encode(successor)
        try:
            with self._locked():
                self._check_replaces(policy)
                self._replace(data)
        except OSError as error:
            raise self._error(f"cannot be written: {error.strerror}", _LOOK) from None
        return successor

    def _check_replaces(self, policy: Policy) -> None:
        try:
            current = self._decode(self._read())
        except FileNotFoundError:
            if policy.generation == 0:
                return
            raise
        if policy.generation == 0:
            raise self._error("exists already", "choose another --store, or use this one")
        if (current.store, current.generation) != (policy.store, policy.generation):
            raise self._error("was changed by somebody else meanwhile", "run the command again")

    def _replace(self, data: bytes) -> None:
        temporary = Path(f"{self.path}.tmp")
        # Left by a crash: nobody else writes one while we hold the lock.
        temporary.unlink(missing_ok=True)
        try:
            with open(temporary, "xb", opener=_open_private) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # Not on the file itself: that one is replaced.
        with open(f"{self.path}.lock", "ab", opener=_open_private) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self) -> bytes:
        mode = self.path.parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise self._error("lies in a folder that every account can change", "choose another")
        if self.path.is_symlink():
            raise self._error("is a symbolic link", "name the file itself")
        with open(self.path, "rb", opener=_open_private) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise self._error("is not a regular file")
            if status.st_mode & 0o077:
                command = f"chmod 600 {shlex.quote(str(self.path))}"
                raise self._error("can be used by other accounts", f"run: {command}")
            if status.st_size > _MAX_BYTES:
                raise self._error(f"is larger than {_MAX_BYTES} bytes")
            return file.read()

    def _encode(self, policy: Policy) -> bytes:
        document = msgspec.json.encode(policy)
        decode_policy(document)  # what could not be read back must not be written
        if not self.sealed:
            return msgspec.json.format(document, indent=2) + b"\n"
        return seal(
            document, self._passphrase, store=str(policy.store), generation=policy.generation
        )

    def _decode(self, data: bytes) -> Policy:
        try:
            return decode_policy(self._document(data))
        except ConfigError as error:
            raise self._error(error.message, error.hint) from None

    def _document(self, data: bytes) -> bytes:
        if data.startswith(MAGIC):
            if self.sealed:
                return unseal(data, self._passphrase)
            raise ConfigError("is sealed", hint=f"set {PASSPHRASE}")
        if data.lstrip()[:1] != b"{":
            raise ConfigError("is damaged, or no policy", hint="restore it from a backup")
        if self.sealed:
            raise ConfigError(
                f"is not sealed, but {PASSPHRASE} is set",
                hint="unset the variable, or create a sealed store at another place",
            )
        return data

    def _error(self, text: str, hint: str | None = None) -> ConfigError:
        return ConfigError(f"{self.path}: {text}", hint=hint)


def _open_private(path: str, flags: int) -> int:
    # O_NONBLOCK: a FIFO must be refused, not waited for.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
