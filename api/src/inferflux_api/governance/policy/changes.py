"""How a policy may change. Each function takes a policy and returns another; none writes anything.

Two rules hold throughout: whoever could administer before still can, and nobody gives away, takes away
or changes what is above their own scopes.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from msgspec.structs import replace

from inferflux_api.governance.policy.document import (
    Policy,
    PolicyGuardrails,
    PolicyKey,
    PolicyTenant,
    credential_digest,
    scopes_of,
)
from inferflux_core.auth import SCOPES, Scope
from inferflux_core.config.schema import LimitsConfig, RateLimitConfig
from inferflux_core.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
)

__all__ = ["Editor", "NewKey"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """An API key as it is asked for; the fields are those of `PolicyKey`."""

    name: str
    scopes: Collection[Scope] = ()
    roles: Collection[str] = ()
    tenant: str = "default"
    models: list[str] | None = None
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    expires_at: float | None = None


class Editor:
    """Changes policies on behalf of somebody.

    Args:
        scopes: of whoever asks for the change.
        tenant: of whoever asks, which they cannot disable.
        roles: those of the configuration, which keys may have besides the policy's.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        scopes: Collection[str] = SCOPES,
        roles: dict[str, list[Scope]] | None = None,
        *,
        tenant: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._scopes = SCOPES if "admin" in scopes else frozenset(scopes)
        self._roles = roles or {}
        self._tenant = tenant
        self._clock = clock

    def add_key(self, policy: Policy, new: NewKey) -> tuple[Policy, PolicyKey, str]:
        """Add a random key; returns the policy, the key and the credential, which is kept nowhere.

        Raises:
            ConflictError: another key has that name.
            InvalidRequestError: it could do nothing, or has a role that does not exist.
            PermissionDeniedError: it could do more than whoever asks for it.
        """
        identifier = secrets.token_hex(4)
        credential = f"ifx_{identifier}_{secrets.token_hex(32)}"
        key = PolicyKey(
            id=identifier,
            name=new.name,
            digest=credential_digest(policy.pepper, credential),
            scopes=sorted(set(new.scopes)),
            roles=sorted(set(new.roles)),
            tenant=new.tenant,
            models=new.models,
            limits=new.limits,
            created_at=self._clock(),
            expires_at=new.expires_at,
        )
        return self._with_key(policy, key, replacing=None), key, credential

    def change_key(self, policy: Policy, identifier: str, new: NewKey) -> Policy:
        """Replace everything of a key but its id and credential. Raises as `add_key`, and `NotFoundError`."""
        old = self._key(policy, identifier)
        key = replace(
            old,
            name=new.name,
            scopes=sorted(set(new.scopes)),
            roles=sorted(set(new.roles)),
            tenant=new.tenant,
            models=new.models,
            limits=new.limits,
            expires_at=new.expires_at,
        )
        return self._with_key(policy, key, replacing=old)

    def remove_key(self, policy: Policy, identifier: str) -> Policy:
        """Take a key back.

        Raises:
            NotFoundError: there is no such key.
            ConflictError: nobody would be left to administer.
            PermissionDeniedError: it can do more than whoever asks.
        """
        key = self._key(policy, identifier)
        kept = [other for other in policy.api_keys if other is not key]
        return self._checked(policy, replace(policy, api_keys=kept))

    def put_role(self, policy: Policy, name: str, scopes: Collection[Scope]) -> Policy:
        """Say what a role stands for.

        Raises:
            ConflictError: the configuration has a role of that name, or nobody would be left to administer.
            PermissionDeniedError: it stands, or stood, for more than whoever asks may do.
        """
        if name in self._roles:
            raise ConflictError(f"the role '{name}' is one of the configuration, auth.roles")
        self._must_hold([*scopes, *policy.roles.get(name, ())])
        roles = {**policy.roles, name: sorted(set(scopes))}
        return self._checked(policy, replace(policy, roles=roles))

    def remove_role(self, policy: Policy, name: str) -> Policy:
        """Forget a role. Raises as `put_role`, and `NotFoundError`; and `ConflictError` if a key has it."""
        if name not in policy.roles:
            raise NotFoundError(f"there is no role '{name}' in the policy")
        holder = next((key for key in policy.api_keys if name in key.roles), None)
        if holder is not None:
            raise ConflictError(f"the key '{holder.name}' has the role '{name}'; change it first")
        self._must_hold(policy.roles[name])
        roles = {known: scopes for known, scopes in policy.roles.items() if known != name}
        return self._checked(policy, replace(policy, roles=roles))

    def put_tenant(self, policy: Policy, name: str, tenant: PolicyTenant) -> Policy:
        """Say what holds for a tenant.

        Raises:
            ConflictError: nobody would be left to administer, or whoever asks would be shut out.
        """
        if tenant.disabled and name == self._tenant:
            raise ConflictError(
                f"'{name}' is your own tenant; ask somebody of another one to disable it"
            )
        return self._checked(policy, replace(policy, tenants={**policy.tenants, name: tenant}))

    def remove_tenant(self, policy: Policy, name: str) -> Policy:
        """Forget what is said of a tenant; its callers keep what holds for all.

        Raises:
            NotFoundError: nothing is said of it.
        """
        if name not in policy.tenants:
            raise NotFoundError(f"the policy says nothing of a tenant '{name}'")
        tenants = {known: said for known, said in policy.tenants.items() if known != name}
        return replace(policy, tenants=tenants)

    def set_limits(self, policy: Policy, limits: RateLimitConfig | None) -> Policy:
        """Replace the limits of everybody; None leaves those of the configuration."""
        return replace(policy, rate_limit=limits)

    def set_guardrails(self, policy: Policy, guardrails: PolicyGuardrails) -> Policy:
        """Replace what the policy says of guardrails."""
        return replace(policy, guardrails=guardrails)

    def restore(self, policy: Policy, old: Policy) -> Policy:
        """What an earlier generation said, but for API keys: one that was taken back must stay away.

        Raises:
            ConflictError: nobody would be left to administer, whoever asks would be shut out, or a key has a
                role that did not exist.
            PermissionDeniedError: a role stood for more than whoever asks may do.
        """
        if old.tenants.get(self._tenant or "", PolicyTenant()).disabled:
            raise ConflictError(f"generation {old.generation} disables your own tenant")
        changed = {
            n for n in {*policy.roles, *old.roles} if policy.roles.get(n) != old.roles.get(n)
        }
        self._must_hold(
            scope
            for roles in (policy.roles, old.roles)
            for n in changed
            for scope in roles.get(n, ())
        )
        for key in policy.api_keys:
            if missing := set(key.roles) - set(old.roles) - set(self._roles):
                raise ConflictError(
                    f"the key '{key.name}' has the role '{min(missing)}', which did not exist then; "
                    "change the key first"
                )
        restored = replace(
            policy,
            roles=old.roles,
            tenants=old.tenants,
            rate_limit=old.rate_limit,
            guardrails=old.guardrails,
        )
        return self._checked(policy, restored)

    def _with_key(self, policy: Policy, key: PolicyKey, replacing: PolicyKey | None) -> Policy:
        others = [other for other in policy.api_keys if other is not replacing]
        if any(other.name == key.name for other in others):
            raise ConflictError(f"there is a key named '{key.name}'; choose another name")
        if not key.scopes and not key.roles:
            raise InvalidRequestError(
                "a key without scopes and roles could do nothing", param="scopes"
            )
        known = self._roles | policy.roles
        for role in key.roles:
            if role not in known:
                raise InvalidRequestError(f"there is no role '{role}'", param="roles")
        self._must_hold(scopes_of(key.scopes, key.roles, known))
        keys = [key if other is replacing else other for other in policy.api_keys]
        if replacing is None:
            keys.append(key)
        return self._checked(policy, replace(policy, api_keys=keys))

    def _key(self, policy: Policy, identifier: str) -> PolicyKey:
        key = next((key for key in policy.api_keys if key.id == identifier), None)
        if key is None:
            raise NotFoundError(f"there is no API key '{identifier}' in the policy")
        self._must_hold(scopes_of(key.scopes, key.roles, self._roles | policy.roles))
        return key

    def _must_hold(self, scopes: Iterable[str]) -> None:
        if missing := sorted(set(scopes) - self._scopes):
            raise PermissionDeniedError(
                f"that needs the scope '{missing[0]}', which this key lacks"
            )

    def _checked(self, before: Policy, after: Policy) -> Policy:
        if self._can_administer(before) and not self._can_administer(after):
            raise ConflictError(
                "nobody would be left to administer: first add another key with the scope admin that "
                "does not expire"
            )
        return after

    def _can_administer(self, policy: Policy) -> bool:
        roles = self._roles | policy.roles
        return any(
            key.expires_at is None
            and "admin" in scopes_of(key.scopes, key.roles, roles)
            and not policy.tenants.get(key.tenant, PolicyTenant()).disabled
            for key in policy.api_keys
        )
