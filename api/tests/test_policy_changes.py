"""How policies may change: nobody grants more than they have, and somebody can always administer."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from inferflux_api.governance.authentication import Access, ApiKeys, Authenticator
from inferflux_api.governance.policy.changes import Editor, NewKey
from inferflux_api.governance.policy.document import (
    Policy,
    PolicyGuardrails,
    PolicyTenant,
    new_policy,
    scopes_of,
)
from inferflux_api.governance.policy.effect import apply_policy
from inferflux_core.auth import SCOPES, Principal, Scope
from inferflux_core.config.schema import (
    ApiKeyConfig,
    AuthConfig,
    Config,
    GuardrailsConfig,
    LimitsConfig,
    RateLimitConfig,
)
from inferflux_core.errors import (
    AuthenticationError,
    ConflictError,
    InferFluxError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
)

NOW = 1_000.0
ADMIN = Editor(clock=lambda: NOW)


def key(name: str, *scopes: Scope, **other: Any) -> NewKey:
    return NewKey(name=name, scopes=scopes, **other)


def added(policy: Policy, new: NewKey, editor: Editor = ADMIN) -> tuple[Policy, str, str]:
    policy, made, credential = editor.add_key(policy, new)
    return policy, made.id, credential


# ------------------------------------------------------------------------------------ changes


def test_the_last_administrator_stays() -> None:
    policy, one, _ = added(new_policy(), key("one", "admin"))
    policy, two, _ = added(policy, key("two", "admin"))
    policy, brief, _ = added(policy, key("brief", "admin", expires_at=NOW + 60))
    policy = ADMIN.remove_key(policy, one)
    with pytest.raises(ConflictError, match="nobody would be left"):
        ADMIN.remove_key(policy, two)
    with pytest.raises(ConflictError, match="nobody would be left"):
        ADMIN.change_key(policy, two, key("two", "read"))
    with pytest.raises(ConflictError, match="nobody would be left"):
        ADMIN.change_key(policy, two, key("two", "admin", expires_at=NOW + 60))
    with pytest.raises(ConflictError, match="nobody would be left"):
        ADMIN.put_tenant(policy, "default", PolicyTenant(disabled=True))
    assert ADMIN.remove_key(policy, brief).api_keys[0].id == two


def test_nobody_shuts_themselves_out() -> None:
    own = Editor(tenant="mine")
    off = PolicyTenant(disabled=True)
    policy, _, _ = added(new_policy(), key("one", "admin"))
    with pytest.raises(ConflictError, match="your own tenant"):
        own.put_tenant(policy, "mine", off)
    with pytest.raises(ConflictError, match="your own tenant"):
        own.restore(policy, replace(policy, tenants={"mine": off}))
    assert own.put_tenant(policy, "theirs", off).tenants == {"theirs": off}


def test_an_administrator_by_role_counts() -> None:
    policy = ADMIN.put_role(new_policy(), "ops", ["admin"])
    policy, one, _ = added(policy, key("one", roles=["ops"]))
    with pytest.raises(ConflictError, match="nobody would be left"):
        ADMIN.put_role(policy, "ops", ["read"])
    with pytest.raises(ConflictError, match="has the role"):
        ADMIN.remove_role(policy, "ops")
    with pytest.raises(ConflictError, match="nobody would be left"):
        ADMIN.remove_key(policy, one)


WRITER = Editor(["policy:write", "generate"], clock=lambda: NOW)


@pytest.mark.parametrize(
    "change",
    [
        lambda policy: WRITER.add_key(policy, key("x", "read")),
        lambda policy: WRITER.add_key(policy, key("x", "admin")),
        lambda policy: WRITER.add_key(policy, key("x", "generate", roles=["ops"])),
        lambda policy: WRITER.remove_key(policy, policy.api_keys[0].id),
        lambda policy: WRITER.change_key(policy, policy.api_keys[0].id, key("one", "generate")),
        lambda policy: WRITER.change_key(policy, policy.api_keys[1].id, key("app", "admin")),
        lambda policy: WRITER.put_role(policy, "new", ["read"]),
        lambda policy: WRITER.put_role(policy, "ops", ["generate"]),
        lambda policy: WRITER.remove_role(policy, "idle"),
        lambda policy: WRITER.restore(policy, replace(policy, roles={"ops": ["admin"]})),
    ],
)
def test_nobody_grants_or_takes_more_than_they_have(change: Callable[[Policy], Any]) -> None:
    policy = ADMIN.put_role(new_policy(), "ops", ["admin"])
    policy = ADMIN.put_role(policy, "idle", ["read"])
    policy, _, _ = added(policy, key("one", "admin"))
    policy, _, _ = added(policy, key("app", "generate"))
    with pytest.raises(PermissionDeniedError, match="that needs the scope"):
        change(policy)


def test_what_a_writer_may_do() -> None:
    policy, _, _ = added(new_policy(), key("one", "admin"))
    policy, made, _ = added(policy, key("app", "generate", tenant="acme"), WRITER)
    policy = WRITER.change_key(policy, made, key("app", "generate", models=["m"]))
    policy = WRITER.put_role(policy, "users", ["generate"])
    assert WRITER.remove_key(policy, made).roles == {"users": ["generate"]}


@pytest.mark.parametrize(
    ("new", "error"),
    [
        (key("one", "read"), ConflictError),
        (key("x"), InvalidRequestError),
        (key("x", roles=["nowhere"]), InvalidRequestError),
    ],
)
def test_keys_that_make_no_sense(new: NewKey, error: type[InferFluxError]) -> None:
    policy, _, _ = added(new_policy(), key("one", "admin"))
    with pytest.raises(error):
        ADMIN.add_key(policy, new)


def test_what_is_not_there_cannot_be_changed() -> None:
    policy = new_policy()
    for change in (
        lambda: ADMIN.remove_key(policy, "0"),
        lambda: ADMIN.change_key(policy, "0", key("x", "read")),
        lambda: ADMIN.remove_role(policy, "x"),
        lambda: ADMIN.remove_tenant(policy, "x"),
    ):
        with pytest.raises(NotFoundError):
            change()


def test_a_rollback_brings_no_key_back() -> None:
    old, one, _ = added(new_policy(), key("one", "admin"))
    old, gone, _ = added(old, key("gone", "generate"))
    old = ADMIN.set_limits(old, RateLimitConfig(requests_per_minute=1))
    new = ADMIN.remove_key(ADMIN.set_limits(old, None), gone)
    new, _, _ = added(new, key("later", "read"))
    restored = ADMIN.restore(new, old)
    assert [k.name for k in restored.api_keys] == ["one", "later"]
    assert restored.rate_limit == RateLimitConfig(requests_per_minute=1)
    assert one in {k.id for k in restored.api_keys}


def test_a_rollback_leaves_no_key_with_a_role_that_is_gone() -> None:
    old, _, _ = added(new_policy(), key("one", "admin"))
    new = ADMIN.put_role(old, "later", ["read"])
    new, _, _ = added(new, key("two", roles=["later"]))
    with pytest.raises(ConflictError, match="'later', which did not exist then"):
        ADMIN.restore(new, old)


class PolicyMachine(RuleBasedStateMachine):
    """Whatever administrators do, one of them can still get in."""

    @initialize()
    def begin(self) -> None:
        self.policy, _, _ = added(new_policy(), key("first", "admin"))
        self.old = self.policy

    def attempt(self, change: Callable[[], Policy]) -> None:
        try:
            self.policy = change()
        except InferFluxError:
            return

    @rule(
        name=st.sampled_from("abc"),
        scopes=st.lists(st.sampled_from(sorted(SCOPES)), max_size=2),
        roles=st.lists(st.sampled_from(["r", "s"]), max_size=1),
        expires=st.sampled_from([None, NOW + 1]),
        tenant=st.sampled_from(["default", "t"]),
    )
    def add(self, name: str, scopes: Any, roles: Any, expires: Any, tenant: str) -> None:
        new = NewKey(name=name, scopes=scopes, roles=roles, expires_at=expires, tenant=tenant)
        self.attempt(lambda: ADMIN.add_key(self.policy, new)[0])

    @rule(at=st.integers(0, 5), scopes=st.lists(st.sampled_from(["read", "admin"]), max_size=1))
    def change(self, at: int, scopes: Any) -> None:
        keys = self.policy.api_keys
        new = key(keys[at % len(keys)].name, *scopes)
        self.attempt(lambda: ADMIN.change_key(self.policy, keys[at % len(keys)].id, new))

    @rule(at=st.integers(0, 5))
    def remove(self, at: int) -> None:
        keys = self.policy.api_keys
        self.attempt(lambda: ADMIN.remove_key(self.policy, keys[at % len(keys)].id))

    @rule(name=st.sampled_from(["r", "s"]), scopes=st.lists(st.sampled_from(["read", "admin"])))
    def role(self, name: str, scopes: Any) -> None:
        self.attempt(lambda: ADMIN.put_role(self.policy, name, scopes))

    @rule(name=st.sampled_from(["r", "s"]))
    def forget_role(self, name: str) -> None:
        self.attempt(lambda: ADMIN.remove_role(self.policy, name))

    @rule(name=st.sampled_from(["default", "t"]), disabled=st.booleans())
    def tenant(self, name: str, disabled: bool) -> None:
        tenant = PolicyTenant(disabled=disabled)
        self.attempt(lambda: ADMIN.put_tenant(self.policy, name, tenant))

    @rule(keep=st.booleans())
    def roll_back(self, keep: bool) -> None:
        if keep:
            self.old = self.policy
        else:
            self.attempt(lambda: ADMIN.restore(self.policy, self.old))

    @invariant()
    def somebody_can_administer(self) -> None:
        assert any(
            "admin" in scopes_of(k.scopes, k.roles, self.policy.roles)
            and k.expires_at is None
            and not self.policy.tenants.get(k.tenant, PolicyTenant()).disabled
            for k in self.policy.api_keys
        )


PolicyMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
test_somebody_can_always_administer = PolicyMachine.TestCase


# ------------------------------------------------------------------------------------ effect


def test_keys_of_store_and_configuration_work_side_by_side() -> None:
    policy, identifier, credential = added(new_policy(), key("stored", "read", tenant="acme"))
    keys = ApiKeys([ApiKeyConfig(key="plain", scopes=["admin"], name="listed")], policy)

    assert keys.find(credential) == Principal("stored", frozenset({"read"}), "acme", "api-keys")
    assert keys.find("plain") == Principal("listed", frozenset({"admin"}), "default", "api-keys")
    wrong_ones = (credential[:-1], credential.upper(), f"ifx_{identifier}_", "", "\ud800")
    for wrong in (*wrong_ones, credential.rpartition("_")[2]):
        assert keys.find(wrong) is None


def test_a_stored_hash_is_no_key() -> None:
    policy, _, _ = added(new_policy(), key("stored", "read"))
    keys, digest = ApiKeys([], policy), policy.api_keys[0].digest
    for spelling in (digest.hex(), msgspec.json.encode(digest).decode().strip('"')):
        assert keys.find(spelling) is None


def authenticator(policy: Policy, now: float = NOW) -> Authenticator:
    access = Access(ApiKeys([], policy, lambda: now), policy.roles, policy.tenants)
    return Authenticator([None], access)


def test_a_key_expires() -> None:
    policy, _, credential = added(new_policy(), key("brief", "read", expires_at=NOW + 60))
    principal = asyncio.run(authenticator(policy).identify(credential))
    late = authenticator(policy, NOW + 60)
    with pytest.raises(AuthenticationError, match="expired"):
        asyncio.run(late.identify(credential))
    with pytest.raises(AuthenticationError, match="expired"):
        late.renew(principal)


def test_roles_are_what_the_policy_says_now() -> None:
    policy = ADMIN.put_role(new_policy(), "users", ["generate"])
    policy, _, credential = added(policy, key("app", "read", roles=["users"]))
    gate = authenticator(policy)
    principal = asyncio.run(gate.identify(credential))
    assert principal.scopes == {"read", "generate"}
    gate.access = authenticator(replace(policy, roles={"users": ["audit:read"]})).access
    assert gate.renew(principal).scopes == {"read", "audit:read"}


def test_a_connection_does_not_outlive_its_key() -> None:
    policy, made, credential = added(new_policy(), key("app", "generate"))
    gate = authenticator(policy)
    principal = asyncio.run(gate.identify(credential))
    assert gate.renew(principal) == principal
    gate.access = authenticator(ADMIN.remove_key(policy, made)).access
    with pytest.raises(AuthenticationError, match="not valid any more"):
        gate.renew(principal)


def test_a_token_is_nobody_once_it_has_expired() -> None:
    gate = Authenticator([], Access(ApiKeys([])), clock=lambda: NOW)
    lasting = Principal("u", frozenset({"read"}), provider="oidc", expires_at=NOW + 1)
    assert gate.renew(lasting) == lasting
    with pytest.raises(AuthenticationError, match="expired"):
        gate.renew(dataclasses.replace(lasting, expires_at=NOW))


def test_what_holds_for_a_tenant() -> None:
    policy, _, credential = added(new_policy(), key("app", "read", tenant="t", models=["a", "b"]))
    policy = ADMIN.put_tenant(policy, "t", PolicyTenant(models=["b", "c"]))
    principal = asyncio.run(authenticator(policy).identify(credential))
    assert principal.models == {"b"}
    assert [principal.may_use(model) for model in "abc"] == [False, True, False]
    policy = ADMIN.put_tenant(policy, "t", PolicyTenant(disabled=True))
    with pytest.raises(PermissionDeniedError, match="disabled"):
        asyncio.run(authenticator(policy).identify(credential))


def test_the_policy_replaces_what_it_speaks_of() -> None:
    config = Config(
        guardrails=GuardrailsConfig(enabled=["pii"], options={"pii": {"action": "mask"}}),
        rate_limit=RateLimitConfig(requests_per_minute=1, storage="redis://here"),
    )
    policy = new_policy(RateLimitConfig(requests_per_minute=9, storage="redis://there"), ["word"])
    policy, _, _ = added(policy, key("k", "read", limits=LimitsConfig(tokens_per_minute=5)))
    policy = ADMIN.put_tenant(policy, "t", PolicyTenant(limits=LimitsConfig(tokens_per_day=7)))
    applied = apply_policy(config, policy)
    assert applied.rate_limit == RateLimitConfig(
        requests_per_minute=9,
        storage="redis://here",
        keys={"k": LimitsConfig(tokens_per_minute=5)},
        tenants={"t": LimitsConfig(tokens_per_day=7)},
    )
    assert applied.guardrails.blocklist == ["word"]
    assert applied.guardrails.enabled == ["blocklist", "pii"]
    policy = ADMIN.set_guardrails(
        policy, PolicyGuardrails(enabled=["blocklist"], options={"pii": {"action": "block"}})
    )
    applied = apply_policy(config, policy)
    assert applied.guardrails.enabled == ["blocklist"]
    assert applied.guardrails.options == {"pii": {"action": "block"}}


def test_what_the_policy_does_not_say_stays() -> None:
    config = Config(
        auth=AuthConfig(api_keys=[ApiKeyConfig(key="k", scopes=["read"])]),
        guardrails=GuardrailsConfig(blocklist=["word"]),
        rate_limit=RateLimitConfig(requests_per_minute=1),
    )
    assert apply_policy(config, new_policy()) == config
    emptied = apply_policy(config, new_policy(RateLimitConfig(), []))
    assert emptied.guardrails.blocklist == []
    assert emptied.rate_limit.requests_per_minute is None
