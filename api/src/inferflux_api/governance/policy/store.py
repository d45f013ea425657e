"""The policy store: the policy and its history in a storage, sealed if there is a passphrase."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec.structs import replace

from inferflux_api.governance.policy.document import Change, Policy, decode_policy
from inferflux_api.governance.policy.sealing import MAGIC, Sealer, WrongPassphraseError
from inferflux_api.governance.policy.storages.storage import (
    ChangedMeanwhileError,
    Entry,
    Storage,
    StorageError,
    UnsafeError,
)
from inferflux_core.errors import ConfigError

__all__ = [
    "NEXT_PASSPHRASE",
    "PASSPHRASE",
    "PolicyChangedError",
    "PolicyStore",
    "Snapshot",
    "StoreUnavailableError",
]

PASSPHRASE: Final = "INFERFLUX_POLICY_PASSPHRASE"  # noqa: S105 - the name of a variable
NEXT_PASSPHRASE: Final = "INFERFLUX_POLICY_PASSPHRASE_NEXT"  # noqa: S105
_MIN_PASSPHRASE: Final = 16
_LOOK: Final = "free some space or correct the permissions, then see with `show` what is in place"


class StoreUnavailableError(ConfigError):
    """The storage cannot be reached, read or written; a later attempt may succeed."""


class PolicyChangedError(ConfigError):
    """Somebody else changed the policy meanwhile."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A policy, and the bytes that it was read from or written as."""

    policy: Policy
    data: bytes


class PolicyStore:
    """Policies in a storage. Its methods block.

    Args:
        storage: where they are kept.
        passphrase: that seals them; None or empty for readable ones.
        next_passphrase: that is to replace it; what is sealed with it already is opened, too.

    Raises:
        ConfigError: a passphrase is short.
    """

    def __init__(
        self, storage: Storage, passphrase: str | None = None, next_passphrase: str | None = None
    ) -> None:
        self.storage = storage
        given = ((PASSPHRASE, passphrase), (NEXT_PASSPHRASE, next_passphrase))
        for name, phrase in given:
            if phrase and len(phrase) < _MIN_PASSPHRASE:
                raise ConfigError(
                    f"{name}: shorter than {_MIN_PASSPHRASE} characters",
                    hint="use a long random one, such as that of `openssl rand -base64 24`",
                )
        self._sealer = Sealer(passphrase) if passphrase else None
        self._next = Sealer(next_passphrase) if next_passphrase else None

    @property
    def sealed(self) -> bool:
        """Whether what is written is sealed."""
        return self._sealer is not None

    @property
    def label(self) -> str:
        """Of the storage."""
        return self.storage.label

    def revision(self) -> Hashable:
        """Something that differs whenever the policy does; cheap to get.

        Raises:
            StoreUnavailableError: the storage fails.
        """
        with self._failures():
            return self.storage.revision()

    def load(self) -> Snapshot | None:
        """Read the policy; None if there is none.

        Raises:
            StoreUnavailableError: the storage fails.
            ConfigError: what is there is not safe to use, cannot be opened, or is older than its history.
        """
        with self._failures():
            # Before the policy itself, or a commit between the two would look like an older copy.
            newest = self.storage.superseded()[:1]
            data = self.storage.load()
        if data is None:
            return None
        policy, _ = self._decode(data)
        if newest and policy.generation < newest[0]:
            raise self._error(
                f"is generation {policy.generation}, but there was a generation {newest[0]}",
                "an older copy was put in its place; restore the newest one, or take it from the history",
            )
        return Snapshot(policy, data)

    def commit(self, before: Snapshot | None, policy: Policy, change: Change) -> Snapshot:
        """Write `policy` as the generation after `before`; None begins a store.

        Raises:
            PolicyChangedError: `before` is no longer what is there.
            StoreUnavailableError: it cannot be written; nothing was changed, unless all that failed is
                the last step, which makes the change durable.
            ConfigError: it could not be read back.
        """
        generation = before.policy.generation + 1 if before else 1
        policy = replace(policy, generation=generation, change=change)
        sealer = self._decode(before.data)[1] if before else self._sealer
        after = Snapshot(policy, self._encode(policy, sealer))
        self._replace(before, after)
        return after

    def generations(self) -> list[int]:
        """Earlier generations that can be looked at, newest first.

        Raises:
            StoreUnavailableError: the storage fails.
        """
        with self._failures():
            return self.storage.superseded()

    def generation(self, number: int) -> Policy | None:
        """An earlier generation.

        Raises:
            StoreUnavailableError: the storage fails.
            ConfigError: it cannot be opened.
        """
        with self._failures():
            data = self.storage.load_superseded(number)
        return None if data is None else self._decode(data)[0]

    def rotate(self, change: Change) -> Snapshot:
        """Seal everything with the next passphrase: first the history, then the policy.

        Can be repeated after a failure. Whoever has both passphrases can read the store throughout.

        Raises:
            ConfigError: there is no next passphrase, or no policy, or see `commit`.
        """
        if self._next is None:
            raise ConfigError(
                f"there is no passphrase to change to; set {NEXT_PASSPHRASE}",
                hint=f"every server needs it besides {PASSPHRASE} before this",
            )
        before = self.load()
        if before is None:
            raise self._error("does not exist")
        for number in self.generations():
            old = self.generation(number)
            if old is not None:
                with self._failures():
                    entry = Entry(number, self._encode(old, self._next))
                    self.storage.rewrite_superseded(entry)
        policy = replace(before.policy, generation=before.policy.generation + 1, change=change)
        after = Snapshot(policy, self._encode(policy, self._next))
        # What it supersedes joins the history as it will be read from there.
        resealed = Snapshot(before.policy, self._encode(before.policy, self._next))
        self._replace(before, after)
        with self._failures():
            self.storage.rewrite_superseded(Entry(before.policy.generation, resealed.data))
        return after

    def close(self) -> None:
        """Let go of the storage."""
        self.storage.close()

    def _replace(self, before: Snapshot | None, after: Snapshot) -> None:
        superseded = Entry(before.policy.generation, before.data) if before else None
        try:
            with self._failures():
                self.storage.replace(superseded, Entry(after.policy.generation, after.data))
        except ChangedMeanwhileError:
            text = "was changed by somebody else meanwhile" if before else "exists already"
            error = PolicyChangedError(f"{self.label}: {text}", hint="look at it, and try again")
            raise error from None

    def _encode(self, policy: Policy, sealer: Sealer | None) -> bytes:
        document = msgspec.json.encode(policy)
        decode_policy(document)  # what could not be read back must not be written
        if sealer is None:
            return msgspec.json.format(document, indent=2) + b"\n"
        return sealer.seal(document, store=str(policy.store), generation=policy.generation)

    def _decode(self, data: bytes) -> tuple[Policy, Sealer | None]:
        """A policy, and who sealed it."""
        try:
            document, sealer = self._document(data)
            return decode_policy(document), sealer
        except ConfigError as error:
            raise self._error(error.message, error.hint) from None

    def _document(self, data: bytes) -> tuple[bytes, Sealer | None]:
        if data.startswith(MAGIC):
            return self._unsealed(data)
        if data.lstrip()[:1] != b"{":
            raise ConfigError("is damaged, or no policy", hint="restore it from a backup")
        if self._sealer is not None:
            raise ConfigError(
                f"is not sealed, but {PASSPHRASE} is set",
                hint=f"to seal it, unset the variable, set {NEXT_PASSPHRASE} and run `rotate`",
            )
        return data, None

    def _unsealed(self, data: bytes) -> tuple[bytes, Sealer]:
        sealers = [sealer for sealer in (self._sealer, self._next) if sealer is not None]
        if not sealers:
            raise ConfigError("is sealed", hint=f"set {PASSPHRASE}")
        for sealer in sealers[:-1]:
            try:
                return sealer.unseal(data), sealer
            except WrongPassphraseError:
                continue
        return sealers[-1].unseal(data), sealers[-1]

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except UnsafeError as error:
            raise self._error(str(error), error.hint) from None
        except StorageError as error:
            raise StoreUnavailableError(f"{self.label}: {error}", hint=_LOOK) from None

    def _error(self, text: str, hint: str | None = None) -> ConfigError:
        return ConfigError(f"{self.label}: {text}", hint=hint)
