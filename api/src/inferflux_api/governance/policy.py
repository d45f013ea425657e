"""The policy document: what the policy store holds, and what it does to a configuration."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from inferflux_core.auth import Scope
from inferflux_core.config import API_KEYS, Config, auth_provider_names, guardrail_names
from inferflux_core.config.conversion import problem_of
from inferflux_core.config.problems import format_path
from inferflux_core.config.schema import RateLimitConfig
from inferflux_core.errors import ConfigError

__all__ = [
    "Policy",
    "PolicyKey",
    "apply_policy",
    "credential_digest",
    "decode_policy",
    "new_policy",
]

logger = logging.getLogger("inferflux.policy")

_VERSION: Final = 1
_BLOCKLIST: Final = "blocklist"

_Label = Annotated[str, Meta(pattern=r"^[\w.@ -]{1,64}\Z")]
_Secret = Annotated[bytes, Meta(min_length=32, max_length=32)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every part of the document."""


class PolicyKey(_Part, frozen=True):
    """An API key, of which only `digest` is kept: HMAC-SHA256 with the pepper of the document."""

    id: _Label
    name: _Label
    scopes: Annotated[list[Scope], Meta(min_length=1)]
    digest: _Secret
    tenant: _Label = "default"

    def __repr__(self) -> str:
        """Leave the digest out: a representation ends up in logs."""
        return f"PolicyKey(id={self.id!r}, name={self.name!r}, scopes={self.scopes!r})"


class PolicyGuardrails(_Part, frozen=True):
    """`blocklist` replaces that of the configuration; null leaves it as it is."""

    blocklist: list[str] | None = None


class Policy(_Part, frozen=True):
    """The whole document. `generation` counts its changes; one that is new has 0."""

    version: Literal[1]
    store: uuid.UUID
    generation: Annotated[int, Meta(ge=1)]
    pepper: _Secret
    api_keys: list[PolicyKey] = []
    rate_limit: RateLimitConfig | None = None
    guardrails: PolicyGuardrails = PolicyGuardrails()

    def __repr__(self) -> str:
        """Leave the secrets out."""
        return f"Policy(store={self.store}, generation={self.generation})"

    def add_key(self, name: str, scopes: Sequence[Scope], tenant: str) -> tuple[Policy, str, str]:
        """Add a random key; returns the new policy, the id of the key and the key itself.

        Raises:
            ConfigError: another key has that name.
        """
        if any(key.name == name for key in self.api_keys):
            raise ConfigError(f"there is a key named '{name}'", hint="choose another --name")
        identifier = secrets.token_hex(4)
        credential = f"ifx_{identifier}_{secrets.token_hex(32)}"
        digest = credential_digest(self.pepper, credential)
        key = PolicyKey(id=identifier, name=name, scopes=list(scopes), tenant=tenant, digest=digest)
        return replace(self, api_keys=[*self.api_keys, key]), identifier, credential

    def remove_key(self, identifier: str) -> Policy:
        """The policy without one of its keys.

        Raises:
            ConfigError: there is no such key, or nobody would be left to administer.
        """
        kept = [key for key in self.api_keys if key.id != identifier]
        if len(kept) == len(self.api_keys):
            raise ConfigError(f"there is no key '{identifier}'", hint="`show` lists the ids")
        if _admins(self.api_keys) and not _admins(kept):
            raise ConfigError(
                f"'{identifier}' is the last key with scope admin",
                hint="first add another one with `add-key --scope admin`",
            )
        return replace(self, api_keys=kept)


def new_policy(rate_limit: RateLimitConfig | None = None, words: list[str] | None = None) -> Policy:
    """A policy without keys, of a store that does not exist yet."""
    return Policy(
        version=_VERSION,
        store=uuid.uuid4(),
        generation=0,
        pepper=secrets.token_bytes(32),
        rate_limit=rate_limit,
        guardrails=PolicyGuardrails(blocklist=words),
    )


def credential_digest(pepper: bytes, credential: str) -> bytes:
    """HMAC-SHA256. A key has 256 random bits, so a slow hash would add nothing."""
    return hmac.digest(pepper, credential.encode(), hashlib.sha256)


def decode_policy(document: bytes) -> Policy:
    """Read and check a document.

    Raises:
        ConfigError: it is not one. The message names the key.
    """
    try:
        tree: Any = msgspec.json.decode(document)
        if isinstance(tree, dict) and tree.get("version") != _VERSION:
            raise ConfigError("has an unknown version", hint="use the release that wrote the file")
        policy = msgspec.json.decode(document, type=Policy)
    except msgspec.ValidationError as error:
        problem = problem_of(error, (), Policy)
        text = f"{format_path(problem.path)}: {problem.text}".removeprefix(": ")
        raise ConfigError(text, hint=problem.hint) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ConfigError(
            "is damaged: not JSON", hint="correct it, or restore it from a backup"
        ) from None
    for what in ("id", "name"):
        if len({getattr(key, what) for key in policy.api_keys}) < len(policy.api_keys):
            raise ConfigError(f"api_keys: two keys have the same {what}")
    return policy


def apply_policy(config: Config, policy: Policy) -> Config:
    """The configuration with what the policy says instead, which is logged.

    Keys of the policy come on top of those of the configuration, so they are not in the result.
    """
    origin = f"policy store {policy.store}, generation {policy.generation}"
    logger.info("%s: %d API keys", origin, len(policy.api_keys))
    names = auth_provider_names(config)
    if policy.api_keys and API_KEYS not in names:
        config = replace(config, auth=replace(config.auth, providers=[API_KEYS, *names]))
    if policy.rate_limit is not None:
        logger.info("%s: its rate_limit replaces that of the configuration", origin)
        limits = policy.rate_limit
        if limits.storage is None:
            limits = replace(
                limits,
                storage=config.rate_limit.storage,
                on_storage_failure=config.rate_limit.on_storage_failure,
            )
        config = replace(config, rate_limit=limits)
    if (words := policy.guardrails.blocklist) is not None:
        logger.info("%s: its guardrails.blocklist replaces that of the configuration", origin)
        guardrails = replace(config.guardrails, blocklist=words)
        config = replace(config, guardrails=guardrails)
        if words and _BLOCKLIST not in guardrail_names(config):
            enabled = [_BLOCKLIST, *guardrail_names(config)]
            config = replace(config, guardrails=replace(guardrails, enabled=enabled))
    return config


def _admins(keys: Sequence[PolicyKey]) -> int:
    return sum("admin" in key.scopes for key in keys)
