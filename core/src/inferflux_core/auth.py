"""Who a caller is and what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Protocol, get_args

__all__ = ["SCOPES", "AuthProvider", "Principal", "Scope"]

Scope = Literal["generate", "read", "models:write", "adapters:write", "admin"]
"""`generate` runs models; `read` sees models and metrics; `models:write` loads, unloads, pulls, creates and
deletes models; `adapters:write` loads and unloads adapters; `admin` implies every other."""

SCOPES: Final[frozenset[str]] = frozenset(get_args(Scope))


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    Attributes:
        subject: stable identity for audit and limits; never a secret.
        scopes: what it may do.
        tenant: who pays; limits count per tenant.
        provider: name of the provider that vouched for it.
    """

    subject: str
    scopes: frozenset[str]
    tenant: str = "default"
    provider: str = ""

    def allows(self, scope: str) -> bool:
        """Whether the principal holds `scope`; `admin` implies every other."""
        return scope in self.scopes or "admin" in self.scopes


class AuthProvider(Protocol):
    """Turns a bearer credential into a principal."""

    async def start(self) -> None:
        """Fetch what is needed. Raises `StartupError` if authentication could never succeed."""

    async def authenticate(self, credential: str) -> Principal | None:
        """Return the principal, or None if this provider does not know the credential.

        Raises:
            AuthenticationError: the credential is of this provider's kind and invalid.
        """

    async def stop(self) -> None:
        """Release connections and tasks."""
