"""Who a caller is and what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Protocol, get_args

__all__ = ["SCOPES", "AuthProvider", "Principal", "Scope"]

Scope = Literal[
    "generate",
    "read",
    "models:write",
    "adapters:write",
    "policy:read",
    "policy:write",
    "audit:read",
    "admin",
]
"""`generate` runs models; `read` sees models and metrics; `models:write` loads, unloads, pulls, creates and
deletes models; `adapters:write` loads and unloads adapters; `policy:read` sees keys (not their secrets),
roles, limits and guardrails, `policy:write` changes them; `audit:read` reads the audit log; `admin` implies
every other."""

SCOPES: Final[frozenset[str]] = frozenset(get_args(Scope))

_STRONGER: Final = {"policy:read": "policy:write"}
"""Scopes that another one implies, besides `admin`."""


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    Attributes:
        subject: stable identity for audit and limits; never a secret.
        scopes: what it may do.
        tenant: who pays; limits count per tenant.
        provider: name of the provider that vouched for it.
        roles: names of bundles of scopes. The server adds their scopes, as its policy has them at the
            time; a name that it does not know adds nothing.
        models: that it may use; None for all.
        expires_at: Unix seconds after which it is nobody, if that is known.
    """

    subject: str
    scopes: frozenset[str]
    tenant: str = "default"
    provider: str = ""
    roles: frozenset[str] = frozenset()
    models: frozenset[str] | None = None
    expires_at: float | None = None

    def allows(self, scope: str) -> bool:
        """Whether the principal holds `scope`, or one that implies it."""
        return not self.scopes.isdisjoint((scope, "admin", _STRONGER.get(scope, scope)))

    def may_use(self, model: str) -> bool:
        """Whether the principal may use a model, and get to know of it."""
        return self.models is None or model in self.models


class AuthProvider(Protocol):
    """Turns a bearer credential into a principal."""

    async def start(self) -> None:
        """Fetch what is needed. Raises `StartupError` if authentication could never succeed."""

    async def authenticate(self, credential: str) -> Principal | None:
        """Return the principal, or None if this provider does not know the credential.

        Raises:
            AuthenticationError: the credential is of this provider's kind and invalid.
            AuthenticationUnavailableError: it cannot be checked just now.
        """

    async def stop(self) -> None:
        """Release connections and tasks."""
