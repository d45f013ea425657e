"""Finding the policy store of a server, or beginning one."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass

from inferflux_api.governance.policy.changes import Editor, NewKey
from inferflux_api.governance.policy.document import Change, new_policy, scopes_of
from inferflux_api.governance.policy.storages.opening import open_storage
from inferflux_api.governance.policy.store import NEXT_PASSPHRASE, PASSPHRASE, PolicyStore
from inferflux_core.config import API_KEYS, Config, auth_provider_names
from inferflux_core.config.schema import DEFAULT_POLICY_STORE
from inferflux_core.errors import ConfigError

__all__ = ["Opened", "create_store", "open_policy_store", "store_at"]


@dataclass(frozen=True, slots=True)
class Opened:
    """The policy store of a server.

    Attributes:
        store: None if the server is to have none.
        first_key: an API key that was made because there was none; to be shown once, and kept nowhere.
    """

    store: PolicyStore | None
    first_key: str | None = None

    def __repr__(self) -> str:
        """Leave the key out."""
        return f"Opened({self.store!r})"


def open_policy_store(config: Config, environ: Mapping[str, str]) -> Opened:
    """Open the policy store that a configuration names.

    The one of the default name begins by itself: with a key for administrators if nobody could
    administer, and else with the first change. Any other has to be there: an empty one in the place of
    one that is not mounted would lift every limit.

    Raises:
        ConfigError: it cannot be used, or is not there.
    """
    if config.policy_store is None:
        return Opened(None)
    store = store_at(config.policy_store, environ)
    if store.load() is not None:
        return Opened(store)
    if config.policy_store != DEFAULT_POLICY_STORE:
        where = shlex.quote(config.policy_store)
        raise ConfigError(
            f"policy_store: {store.label}: does not exist",
            hint=f"run: python -m inferflux_api.policy init --store {where}",
        )
    if _somebody_can_administer(config):
        return Opened(store)
    return Opened(store, create_store(store, "first start"))


def store_at(where: str, environ: Mapping[str, str]) -> PolicyStore:
    """A store with the passphrases of the environment.

    Raises:
        ConfigError: a passphrase is short, or `where` makes no sense.
    """
    return PolicyStore(open_storage(where), environ.get(PASSPHRASE), environ.get(NEXT_PASSPHRASE))


def create_store(store: PolicyStore, by: str) -> str:
    """Begin a store with one key that may do everything; returns that.

    Raises:
        ConfigError: there is a store already, or it cannot be written.
    """
    policy, _, credential = Editor().add_key(new_policy(), NewKey(name="admin", scopes=["admin"]))
    store.commit(None, policy, Change(at=time.time(), by=by, what="create the store"))
    return credential


def _somebody_can_administer(config: Config) -> bool:
    auth = config.auth
    keys = any("admin" in scopes_of(key.scopes, key.roles, auth.roles) for key in auth.api_keys)
    # What other providers grant is known only when somebody comes.
    return keys or any(name != API_KEYS for name in auth_provider_names(config))
