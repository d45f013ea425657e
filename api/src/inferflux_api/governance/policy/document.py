"""The policy document: what the policy store holds."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from inferflux_core.auth import Scope
from inferflux_core.config.conversion import problem_of
from inferflux_core.config.problems import format_path
from inferflux_core.config.schema import LimitsConfig, RateLimitConfig
from inferflux_core.errors import ConfigError

__all__ = [
    "Change",
    "Label",
    "Policy",
    "PolicyGuardrails",
    "PolicyKey",
    "PolicyTenant",
    "credential_digest",
    "decode_policy",
    "new_policy",
    "scopes_of",
]

_VERSION: Final = 1

Label = Annotated[str, Meta(pattern=r"^[\w.@ -]{1,64}\Z")]
"""A name: letters, digits, spaces and . _ @ -"""

_Secret = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Time = Annotated[float, Meta(ge=0, le=253_402_300_800)]
"""Unix seconds, before the year 10000."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every part of the document."""


class PolicyKey(_Part, frozen=True):
    """An API key, of which only `digest` is kept: HMAC-SHA256 with the pepper of the document.

    Its name is the identity that limits and the audit log know. `models` of null are all models.
    """

    id: Label
    name: Label
    digest: _Secret
    scopes: list[Scope] = []
    roles: list[Label] = []
    tenant: Label = "default"
    models: list[str] | None = None
    limits: LimitsConfig = LimitsConfig()
    created_at: _Time = 0.0
    expires_at: _Time | None = None

    def __repr__(self) -> str:
        """Leave the digest out: a representation ends up in logs."""
        return f"PolicyKey(id={self.id!r}, name={self.name!r}, scopes={self.scopes!r})"


class PolicyTenant(_Part, frozen=True):
    """What holds for all callers of a tenant, whoever vouched for them."""

    disabled: bool = False
    models: list[str] | None = None
    limits: LimitsConfig = LimitsConfig()


class PolicyGuardrails(_Part, frozen=True):
    """Each of them replaces what the configuration says; null leaves it. `options` do so by guardrail."""

    enabled: list[str] | None = None
    blocklist: list[str] | None = None
    options: dict[str, dict[str, Any]] = {}


class Change(_Part, frozen=True):
    """How a generation came about: when, by whom, and what was done."""

    at: _Time
    by: str
    what: str


class Policy(_Part, frozen=True):
    """The whole document. `generation` counts its changes; one that is new has 0."""

    version: Literal[1]
    store: uuid.UUID
    generation: Annotated[int, Meta(ge=1)]
    pepper: _Secret
    change: Change | None = None
    api_keys: list[PolicyKey] = []
    roles: dict[Label, list[Scope]] = {}
    tenants: dict[Label, PolicyTenant] = {}
    rate_limit: RateLimitConfig | None = None
    guardrails: PolicyGuardrails = PolicyGuardrails()

    def __repr__(self) -> str:
        """Leave the secrets out."""
        return f"Policy(store={self.store}, generation={self.generation})"


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
    return hmac.digest(pepper, credential.encode("utf-8", "surrogatepass"), hashlib.sha256)


def scopes_of(
    scopes: Collection[str], roles: Collection[str], table: Mapping[str, Sequence[str]]
) -> frozenset[str]:
    """Scopes, and those that roles stand for. A role that the table does not have adds nothing."""
    return frozenset(scopes).union(*(table.get(role, ()) for role in roles))


def decode_policy(document: bytes) -> Policy:
    """Read and check a document.

    Raises:
        ConfigError: it is not one. The message names the key.
    """
    try:
        tree: Any = msgspec.json.decode(document)
        if isinstance(tree, dict) and tree.get("version") != _VERSION:
            raise ConfigError("has an unknown version", hint="use the release that wrote it")
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
