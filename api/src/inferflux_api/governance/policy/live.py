"""The policy while a server runs: what others change is in force within a second, and so are our changes."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Hashable
from typing import Final, TypeVar

import msgspec
from msgspec.structs import replace

from inferflux_api.governance.policy.document import Change, Policy, decode_policy, new_policy
from inferflux_api.governance.policy.store import (
    PolicyChangedError,
    PolicyStore,
    Snapshot,
)
from inferflux_core.errors import (
    ConfigError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PolicyUnavailableError,
    PreconditionFailedError,
    StartupError,
)

__all__ = ["Install", "LivePolicy"]

logger = logging.getLogger("inferflux.policy")

_REFRESH_SECONDS: Final = 0.25
_ATTEMPTS: Final = 20
_T = TypeVar("_T")

Install = Callable[[], None]
"""Puts a prepared policy in force, at once and without fail."""


class LivePolicy:
    """Holds the newest policy that could be read, and changes it.

    Args:
        store: where it is kept; None if the server has none.
        prepare: builds everything that a policy asks for, in any thread, or raises `StartupError`.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        store: PolicyStore | None,
        prepare: Callable[[Policy], Install],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._prepare = prepare
        self._clock = clock
        self._snapshot: Snapshot | None = None
        self._revision: Hashable = None
        self._refreshed_at = clock()
        self._problem = ""
        self._lock = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None
        # What keys of the configuration are hashed with while there is no store.
        self._unsaved = new_policy()

    @property
    def policy(self) -> Policy:
        """What is in force; of generation 0 if there is no store yet."""
        return self._snapshot.policy if self._snapshot else self._unsaved

    @property
    def generation(self) -> int:
        """Of the policy in force."""
        return self.policy.generation

    @property
    def location(self) -> str | None:
        """Where it is kept."""
        return None if self._store is None else self._store.label

    @property
    def sealed(self) -> bool:
        """Whether it is kept encrypted."""
        return self._store is not None and self._store.sealed

    @property
    def age(self) -> float:
        """Seconds since the policy was last known to be the newest; 0 without a store."""
        return self._clock() - self._refreshed_at if self._store else 0.0

    def load(self) -> None:
        """Read the policy for the first time, and put it in force.

        Raises:
            StartupError: it cannot be read, or asks for something impossible.
        """
        if self._store is not None:
            self._revision = self._store.revision()
            self._snapshot = self._store.load()
        self._prepare(self.policy)()
        if self._snapshot is not None:
            logger.info("%s: generation %d", self.location, self.generation)

    def start(self) -> None:
        """Begin to look for changes."""
        if self._store is not None:
            self._watch = asyncio.create_task(self._watching(), name="policy")

    async def stop(self) -> None:
        """Stop looking, and let go of the store."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        if self._store is not None:
            self._store.close()

    async def change(
        self,
        edit: Callable[[Policy], Policy],
        *,
        by: str,
        what: str,
        expected: int | None = None,
    ) -> Policy:
        """Change the policy: written first, then in force here, and within a second elsewhere.

        Args:
            edit: makes the new policy of the newest one; called again if somebody else was quicker.
            by: who asks.
            what: is done, for the history.
            expected: the generation that the caller saw, if that matters.

        Raises:
            PreconditionFailedError: it is another one.
            InvalidRequestError: what the new policy says cannot be done here.
            PolicyUnavailableError: it cannot be read or written.
            InferFluxError: that `edit` raises.
        """
        store = self._present_store()
        async with self._lock:
            for _ in range(_ATTEMPTS):
                await self._refresh_or_refuse()
                if expected is not None and expected != self.generation:
                    raise PreconditionFailedError(
                        f"the policy is of generation {self.generation}, not {expected}; look at it again"
                    )
                policy = edit(self.policy)
                install = await self._prepared(policy)
                change = Change(at=time.time(), by=by, what=what)
                try:
                    snapshot = await asyncio.to_thread(store.commit, self._snapshot, policy, change)
                except PolicyChangedError:
                    # Apart from whoever was quicker, or both would meet again.
                    await asyncio.sleep(secrets.randbelow(50) / 1000)
                    continue
                except ConfigError as error:
                    logger.error("%s", error)
                    raise PolicyUnavailableError(
                        "the policy could not be written, see the server's log; look whether it changed"
                    ) from error
                self._install(snapshot, install)
                return snapshot.policy
        raise ConflictError("the policy changes too often just now; try again")

    async def generations(self) -> list[Policy]:
        """This policy and those before it, newest first.

        Raises:
            PolicyUnavailableError: they cannot be read.
        """
        store = self._present_store()

        def read() -> list[Policy]:
            found = (store.generation(number) for number in store.generations())
            return [policy for policy in found if policy is not None]

        earlier = await _in_thread(read)
        return [self.policy, *(p for p in earlier if p.generation < self.generation)]

    async def at(self, generation: int) -> Policy:
        """The policy of a generation.

        Raises:
            NotFoundError: there was none, or it is not kept any more.
            PolicyUnavailableError: it cannot be read.
        """
        if generation == self.generation:
            return self.policy
        store = self._present_store()
        policy = await _in_thread(lambda: store.generation(generation))
        if policy is None or generation > self.generation:
            raise NotFoundError(
                f"there is no generation {generation} of the policy any more, or yet"
            )
        return policy

    async def refresh(self) -> None:
        """Put in force what is in the store; what cannot be used is logged, and nothing changes."""
        async with self._lock:
            try:
                await self._refresh()
            except (StartupError, PolicyUnavailableError) as error:
                if str(error) != self._problem:
                    self._problem = str(error)
                    logger.error(
                        "the policy in force stays generation %d: %s", self.generation, error
                    )
            else:
                self._problem = ""

    async def _watching(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            try:
                await self.refresh()
            except Exception:  # whatever it is, the next look may succeed
                logger.exception("looking for a newer policy failed")

    async def _refresh_or_refuse(self) -> None:
        try:
            await self._refresh()
        except StartupError as error:
            logger.error("%s", error)
            raise PolicyUnavailableError(
                "the policy cannot be read, see the server's log"
            ) from error

    async def _refresh(self) -> None:
        store = self._present_store()
        revision = await asyncio.to_thread(store.revision)
        if revision != self._revision or self._problem:
            snapshot = await asyncio.to_thread(store.load)
            self._check_follows(snapshot)
            if snapshot is not None and snapshot != self._snapshot:
                self._install(snapshot, await asyncio.to_thread(self._prepare, snapshot.policy))
                logger.info("policy: generation %d is in force", self.generation)
            # Read before the document: what came between is looked at next time.
            self._revision = revision
        self._refreshed_at = self._clock()

    def _check_follows(self, found: Snapshot | None) -> None:
        if self._snapshot is None:
            return
        if found is None:
            raise ConfigError(
                "the policy store is gone", hint="restore it; this server has its content"
            )
        before, after = self._snapshot.policy, found.policy
        if after.store != before.store:
            raise ConfigError(
                "the policy store was replaced by another one",
                hint="restore it, or restart the server to take the other one",
            )
        if after.generation < before.generation:
            raise ConfigError(
                f"the policy store went back to generation {after.generation}",
                hint="restore the newest one; to go back, use `inferctl admin policy --rollback`",
            )

    async def _prepared(self, policy: Policy) -> Install:
        try:
            decode_policy(
                msgspec.json.encode(replace(policy, generation=max(policy.generation, 1)))
            )
            # Large blocklists take a while.
            return await asyncio.to_thread(self._prepare, policy)
        except StartupError as error:
            raise InvalidRequestError(error.message) from error

    def _install(self, snapshot: Snapshot, install: Install) -> None:
        self._snapshot = snapshot
        install()

    def _present_store(self) -> PolicyStore:
        if self._store is None:
            raise PolicyUnavailableError("this server has no policy store; set policy_store")
        return self._store


async def _in_thread(read: Callable[[], _T]) -> _T:
    try:
        return await asyncio.to_thread(read)
    except ConfigError as error:
        logger.error("%s", error)
        raise PolicyUnavailableError("the policy cannot be read, see the server's log") from error
