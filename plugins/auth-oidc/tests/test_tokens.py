from __future__ import annotations

import hmac
import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from joserfc.jwk import Key, RSAKey
from oidc_fakes import (
    EC,
    ED,
    KEYS,
    NOW,
    RSA,
    RSA_OTHER,
    UNTIL,
    Issuer,
    assemble,
    encode,
    running,
    sign,
)

from inferflux_core.auth import Principal
from inferflux_core.errors import AuthenticationError

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")])
async def test_a_good_token_names_its_bearer(issuer: Issuer, key: Key, algorithm: str) -> None:
    async with running(issuer) as provider:
        principal = await provider.authenticate(issuer.token(key, algorithm))
    assert principal == Principal(
        "ada", frozenset({"generate", "read"}), provider="oidc", expires_at=UNTIL
    )


async def test_a_token_without_key_id_needs_the_only_key_that_fits(issuer: Issuer) -> None:
    token = sign({"alg": "RS256"}, issuer.claims(), RSA)
    async with running(issuer) as provider:
        assert await provider.authenticate(token) is not None
    issuer.keys.append(RSA_OTHER)
    async with running(issuer) as provider:
        with pytest.raises(AuthenticationError, match="unknown key"):
            await provider.authenticate(token)


@pytest.mark.parametrize(
    "credential",
    [
        "",
        "sk-1234",
        "a.b",
        "a.b.c",
        "..",
        "eyJ9.e30.x",
        f"{encode(b'[]')}.e30.x",
        "a.b.c.d.e",
        "é.é.é",
        f"{encode(b'{}')}.e30.x",
    ],
)
async def test_what_is_no_token_is_left_to_other_providers(issuer: Issuer, credential: str) -> None:
    async with running(issuer) as provider:
        assert await provider.authenticate(credential) is None


@pytest.mark.parametrize("suffix", ["/", "x", "/realm", "#", "\u0000"])
async def test_tokens_of_other_issuers_are_left_to_other_providers(
    issuer: Issuer, suffix: str
) -> None:
    async with running(issuer) as provider:
        assert await provider.authenticate(issuer.token(iss=issuer.url + suffix)) is None
        assert await provider.authenticate(issuer.token(iss=issuer.url[:-1])) is None


def confuse_with_hmac(issuer: Issuer) -> str:
    secret = RSA.as_pem(private=False)
    header = {"alg": "HS256", "kid": RSA.kid}
    return assemble(header, issuer.claims(), lambda data: hmac.digest(secret, data, "sha256"))


def tamper(issuer: Issuer) -> str:
    header, _, signature = issuer.token().split(".")
    claims = encode(json.dumps(issuer.claims(scope="admin")).encode())
    return f"{header}.{claims}.{signature}"


def with_header(**extra: Any) -> Callable[[Issuer], str]:
    return lambda issuer: sign({"alg": "RS256", "kid": "rsa", **extra}, issuer.claims(), RSA)


def unsigned(algorithm: object) -> Callable[[Issuer], str]:
    return lambda issuer: assemble({"alg": algorithm}, issuer.claims(), lambda _: b"")


def stranger(**extra: Any) -> Callable[[Issuer], str]:
    """Signed by a key that is not the issuer's, which the token itself recommends."""
    return lambda issuer: sign({"alg": "RS256", **extra}, issuer.claims(), RSA_OTHER)


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(unsigned("none"), id="A1 none"),
        pytest.param(unsigned("None"), id="A1 None"),
        pytest.param(unsigned("nOnE"), id="A1 nOnE"),
        pytest.param(unsigned(""), id="A1 empty algorithm"),
        pytest.param(unsigned(None), id="A1 null algorithm"),
        pytest.param(unsigned(["RS256"]), id="A1 list of algorithms"),
        pytest.param(unsigned("RS256"), id="A1 empty signature"),
        pytest.param(confuse_with_hmac, id="A2 public key as HMAC secret"),
        pytest.param(
            lambda i: sign({"alg": "ES256", "kid": "rsa"}, i.claims(), EC), id="A2 other key type"
        ),
        pytest.param(lambda i: i.token(RSA, "PS256"), id="A2 algorithm that is not accepted"),
        pytest.param(tamper, id="other claims under a good signature"),
        pytest.param(stranger(kid="rsa"), id="other key under a known name"),
        pytest.param(with_header(crit=["exp"]), id="A4 crit exp"),
        pytest.param(with_header(crit=["b64"], b64=False), id="A4 crit b64"),
        pytest.param(with_header(crit=["x"], x=1), id="A4 crit unknown"),
        pytest.param(with_header(crit=[]), id="A4 crit empty"),
        pytest.param(with_header(kid="../../../../etc/passwd"), id="A5 path as key id"),
        pytest.param(with_header(kid="' OR 1=1 --"), id="A5 SQL as key id"),
        pytest.param(with_header(kid={"a": 1}), id="A5 object as key id"),
        pytest.param(with_header(kid=7), id="A5 number as key id"),
        pytest.param(with_header(kid=""), id="A5 empty key id"),
        pytest.param(with_header(kid="x" * 1_000_000), id="A5 huge key id"),
        pytest.param(
            stranger(kid="rsa", jwk=RSA_OTHER.as_dict(private=False)), id="A5 key in the token"
        ),
        pytest.param(
            lambda i: assemble({"alg": "RS256"}, b"[" * 5000, lambda _: b"x"), id="nested claims"
        ),
        pytest.param(lambda i: assemble({"alg": "RS256"}, b"", lambda _: b"x"), id="no claims"),
        pytest.param(
            lambda i: assemble({"alg": "RS256"}, [1], lambda _: b"x"), id="list as claims"
        ),
    ],
)
async def test_forged_tokens_are_refused(issuer: Issuer, forge: Callable[[Issuer], str]) -> None:
    async with running(issuer) as provider:
        with pytest.raises(AuthenticationError) as refusal:
            await provider.authenticate(forge(issuer))
        assert await provider.authenticate(issuer.token()) is not None
    message = refusal.value.message
    assert not any(secret in message for secret in (issuer.url, "ada", "rsa", "passwd", "admin"))


async def test_addresses_in_a_token_are_never_visited(issuer: Issuer) -> None:
    trap = f"{issuer.url}/trap"
    forge = stranger(kid="trap", jku=trap, x5u=trap, jwk={"kty": "RSA"}, x5c=["AAAA"])
    async with running(issuer) as provider:
        with pytest.raises(AuthenticationError):
            await provider.authenticate(forge(issuer))
        assert await provider.authenticate(with_header(jku=trap, x5u=trap)(issuer)) is not None
    assert "/trap" not in issuer.requests


@pytest.mark.parametrize(
    ("claims", "complaint"),
    [
        ({"iss": None}, "issuer"),
        ({"iss": 7}, "issuer"),
        ({"aud": None}, "aud"),
        ({"aud": ""}, "another service"),
        ({"aud": "inferflux2"}, "another service"),
        ({"aud": "inferflu"}, "another service"),
        ({"aud": "inferflux other"}, "another service"),
        ({"aud": []}, "another service"),
        ({"aud": ["other", "INFERFLUX"]}, "another service"),
        ({"aud": ["inferflux", 7]}, "aud"),
        ({"aud": {"inferflux": 1}}, "aud"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
        ({"sub": 7}, "sub"),
        ({"sub": "x" * 256}, "sub"),
        ({"exp": None}, "exp"),
        ({"exp": str(NOW + 300)}, "exp"),
        ({"iat": True}, "iat"),
        ({"exp": -1}, "exp"),
        ({"exp": 10**400}, "exp|damaged"),
        ({"exp": 1e300}, "exp"),
        ({"exp": float("nan")}, "damaged"),
        ({"exp": float("inf")}, "damaged"),
        ({"exp": [NOW + 300]}, "exp"),
        ({"exp": NOW - 60}, "expired"),
        ({"iat": None}, "iat"),
        ({"iat": "now"}, "iat"),
        ({"iat": NOW + 61}, "not valid yet"),
        ({"nbf": NOW + 61}, "not valid yet"),
        ({"nbf": "later"}, "nbf"),
        ({"scope": 7}, "scope"),
        ({"scope": ["generate", 7]}, "scope"),
    ],
)
async def test_claims_that_do_not_hold_are_refused(
    issuer: Issuer, claims: dict[str, Any], complaint: str
) -> None:
    async with running(issuer) as provider:
        with pytest.raises(AuthenticationError, match=complaint):
            await provider.authenticate(issuer.token(**claims))


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW - 59},
        {"exp": NOW + 0.5},
        {"iat": NOW + 60},
        {"nbf": NOW + 60},
        {"aud": ["other", "inferflux"]},
        {"sub": "x" * 255},
    ],
)
async def test_claims_at_the_edge_hold(issuer: Issuer, claims: dict[str, Any]) -> None:
    async with running(issuer) as provider:
        assert await provider.authenticate(issuer.token(**claims)) is not None


async def test_tokens_with_the_same_beginning_are_told_apart(issuer: Issuer) -> None:
    async with running(issuer) as provider:
        ada, bob = issuer.token(sub="ada"), issuer.token(sub="bob")
        assert ada[:40] == bob[:40]
        principals = [await provider.authenticate(token) for token in (ada, bob, ada)]
    assert [principal and principal.subject for principal in principals] == ["ada", "bob", "ada"]


@pytest.mark.parametrize(
    ("options", "claims", "scopes"),
    [
        ({}, {"scope": "generate openid"}, {"generate"}),
        ({}, {"scope": ["read", "admin"]}, {"read", "admin"}),
        ({}, {"scope": None}, set()),
        ({}, {"scope": "Generate inferflux:read"}, set()),
        (
            {"scope_prefix": "inferflux:"},
            {"scope": "inferflux:read generate other:admin"},
            {"read"},
        ),
        ({"scope_claim": "roles"}, {"roles": ["admin"], "scope": "read"}, {"admin"}),
    ],
)
async def test_scopes(
    issuer: Issuer, options: dict[str, Any], claims: dict[str, Any], scopes: set[str]
) -> None:
    async with running(issuer, **options) as provider:
        principal = await provider.authenticate(issuer.token(**claims))
    assert principal is not None
    assert principal.scopes == scopes


async def test_the_tenant_comes_from_its_claim_or_nowhere(issuer: Issuer) -> None:
    async with running(issuer, tenant_claim="org") as provider:
        principal = await provider.authenticate(issuer.token(org="acme"))
        assert principal is not None
        assert principal.tenant == "acme"
        for org in (None, "", 7):
            with pytest.raises(AuthenticationError, match="org"):
                await provider.authenticate(issuer.token(org=org))
    async with running(issuer, tenant="acme") as provider:
        principal = await provider.authenticate(issuer.token(org="other"))
        assert principal is not None
        assert principal.tenant == "acme"


async def test_short_rsa_keys_are_refused_and_the_others_serve(issuer: Issuer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        short = RSAKey.generate_key(1024, {"kid": "short"})
    issuer.keys.append(short)
    async with running(issuer) as provider:
        assert await provider.authenticate(issuer.token()) is not None
        with pytest.raises(AuthenticationError, match="unknown key"):
            await provider.authenticate(issuer.token(short))


async def test_keys_of_other_use_are_refused(issuer: Issuer) -> None:
    issuer.keys = [
        RSAKey.import_key(RSA.as_dict(private=True), {"kid": "enc", "use": "enc"}),
        RSAKey.import_key(RSA_OTHER.as_dict(private=True), {"kid": "ps", "alg": "PS256"}),
        EC,
    ]
    async with running(issuer) as provider:
        for key_id, key in (("enc", RSA), ("ps", RSA_OTHER)):
            with pytest.raises(AuthenticationError, match="unknown key"):
                await provider.authenticate(
                    sign({"alg": "RS256", "kid": key_id}, issuer.claims(), key)
                )
    assert KEYS in issuer.requests


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ({"typ": "JWT"}, {}),
        ({"typ": "at+jwt"}, {}),
        ({"typ": "application/AT+JWT"}, {}),
        ({"typ": "JWT"}, {"typ": "Bearer"}),
        ({"typ": "at+jwt"}, {"nonce": "n"}),
    ],
)
async def test_access_tokens_by_any_name(
    issuer: Issuer, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    token = sign({"alg": "RS256", "kid": "rsa", **header}, issuer.claims(**claims), RSA)
    async with running(issuer) as provider:
        assert await provider.authenticate(token) is not None


@pytest.mark.parametrize(
    ("header", "claims", "complaint"),
    [
        ({"typ": "JWT"}, {"nonce": "n"}, "ID token"),
        ({}, {"at_hash": "x"}, "ID token"),
        ({}, {"c_hash": "x"}, "ID token"),
        ({"typ": "JWT"}, {"typ": "ID"}, "ID token"),
        ({"typ": "logout+jwt"}, {}, "not an access token"),
        ({"typ": "dpop+jwt"}, {}, "not an access token"),
        ({"typ": 7}, {}, "not an access token"),
        ({"typ": "at+jwt"}, {"cnf": {"jkt": "x"}}, "bound to a key"),
        ({}, {"cnf": None}, "bound to a key"),
    ],
)
async def test_tokens_for_another_purpose_are_refused(
    issuer: Issuer, header: dict[str, Any], claims: dict[str, Any], complaint: str
) -> None:
    said = {**issuer.claims(), **claims}
    token = sign({"alg": "RS256", "kid": "rsa", **header}, said, RSA)
    async with running(issuer) as provider:
        with pytest.raises(AuthenticationError, match=complaint):
            await provider.authenticate(token)


KEYCLOAK = {
    "realm_access": {"roles": ["operators", "offline_access"]},
    "resource_access": {"inferflux": {"roles": ["auditors"]}},
}


@pytest.mark.parametrize(
    ("options", "claims", "roles"),
    [
        ({}, {"roles": ["operators"]}, set()),
        ({"role_claim": "roles"}, {"roles": ["operators"]}, {"operators"}),
        ({"role_claim": "roles"}, {"roles": "operators auditors "}, {"operators", "auditors"}),
        ({"role_claim": "roles"}, {}, set()),
        ({"role_claim": "realm_access.roles"}, KEYCLOAK, {"operators", "offline_access"}),
        ({"role_claim": "resource_access.inferflux.roles"}, KEYCLOAK, {"auditors"}),
        ({"role_claim": "resource_access.other.roles"}, KEYCLOAK, set()),
        ({"role_claim": "realm_access.roles.0"}, KEYCLOAK, set()),
        ({"role_claim": "https://acme.com/r"}, {"https://acme.com/r": ["x"]}, {"x"}),
        (
            {"role_claim": "groups", "role_map": {"/staff": ["operators", "readers"]}},
            {"groups": ["/staff", "operators"]},
            {"operators", "readers"},
        ),
    ],
)
async def test_roles(
    issuer: Issuer, options: dict[str, Any], claims: dict[str, Any], roles: set[str]
) -> None:
    async with running(issuer, **options) as provider:
        principal = await provider.authenticate(issuer.token(**claims))
    assert principal is not None
    assert principal.roles == roles


@pytest.mark.parametrize("roles", [7, {"a": 1}, ["operators", 7], None])
async def test_roles_that_make_no_sense_are_refused(issuer: Issuer, roles: object) -> None:
    token = sign({"alg": "RS256", "kid": "rsa"}, {**issuer.claims(), "roles": roles}, RSA)
    async with running(issuer, role_claim="roles") as provider:
        with pytest.raises(AuthenticationError, match="roles"):
            await provider.authenticate(token)


async def test_values_of_a_claim_stand_for_scopes(issuer: Issuer) -> None:
    options = {"scope_claim": "org.groups", "scope_map": {"ml": ["generate", "read"], "x": []}}
    async with running(issuer, **options) as provider:
        principal = await provider.authenticate(issuer.token(org={"groups": ["ml", "x", "admin"]}))
    assert principal is not None
    assert principal.scopes == {"generate", "read"}
