from __future__ import annotations

import pytest

from inferflux_core.config import (
    auth_options,
    auth_provider_names,
    backend_name,
    guardrail_names,
    guardrail_options,
    guardrail_rule,
    load_config,
    model_configs,
)
from inferflux_core.errors import ConfigError

KEY = "auth.api_keys=[{key: a, scopes: [read]}]"
ISSUER = "auth.oidc.issuer=https://id.example"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["auth.api_keys=[{key: hunter2, scopes: []}, {key: hunter2, scopes: []}]"],
            "auth.api_keys[1].key: the same key as auth.api_keys[0].key",
        ),
        (
            ["model_signing.mode=enforce"],
            "model_signing.public_keys: `mode: enforce` needs at least one",
        ),
        (
            ["model_signing.public_keys=[key.pub]"],
            "model_signing.public_keys: would have no effect without `mode: warn` or `mode: enforce`",
        ),
        (
            ["model.path=m.gguf", "model.signature=m.sig"],
            "model.signature: would have no effect without `model_signing.mode`",
        ),
        (
            ["models=[{path: m.gguf, signature: m.sig}]"],
            "models[0].signature: would have no effect without `model_signing.mode`",
        ),
        (
            ["server.grpc.host=localhost"],
            "server.grpc.host: would have no effect without `server.grpc.port`",
        ),
        (
            ["server.grpc.tls={cert: a, key: b}"],
            "server.grpc.tls: would have no effect without `server.grpc.port`",
        ),
        (
            ["server.port=9000", "server.grpc.port=9000"],
            "server.grpc.port: HTTP has this port; gRPC needs one of its own",
        ),
        (
            ["server.grpc.port=1", "server.grpc.tls.key=b"],
            "server.grpc.tls: `cert` and `key` go together: set both, or neither",
        ),
        (
            ["server.grpc.port=1", "server.grpc.tls.client_ca=b"],
            "server.grpc.tls.client_ca: would have no effect without `cert` and `key`",
        ),
        (["auth.api_keys=[{key: '', scopes: []}]"], "auth.api_keys[0].key: the key is empty"),
        (
            ["auth.roles={ops: [read]}", "auth.api_keys=[{key: a, scopes: [], roles: [boss]}]"],
            "auth.api_keys[0].roles[0]: there is no role 'boss' in `auth.roles`; there is: ops",
        ),
        (["auth.api_keys=[{key: ' ', scopes: []}]"], "auth.api_keys[0].key: the key is empty"),
        (
            [KEY, "auth.providers=oidc", ISSUER],
            "auth.api_keys: would have no effect: `auth.providers` does not name 'api-keys'",
        ),
        (
            [KEY, "auth.providers=api-keys", ISSUER],
            "auth.oidc: would have no effect: `auth.providers` does not name 'oidc'",
        ),
        (
            ["auth.options={ldap: {}}"],
            "auth.options.ldap: would have no effect: `auth.providers` does not name 'ldap'",
        ),
        (["auth.options={oidc: {}}"], "auth.options.oidc: belongs in `auth.oidc`"),
        (
            ["guardrails.enabled=pii", "guardrails.blocklist=a"],
            "guardrails.blocklist: would have no effect: "
            "`guardrails.enabled` does not name 'blocklist'",
        ),
        (
            ["guardrails.enabled=[]", "guardrails.blocklist=a"],
            "guardrails.blocklist: would have no effect: "
            "`guardrails.enabled` does not name 'blocklist'",
        ),
        (
            ["guardrails.options={pii: {}}"],
            "guardrails.options.pii: would have no effect: "
            "`guardrails.enabled` does not name 'pii'",
        ),
        (
            ["guardrails.blocklist=[a]", "guardrails.options={blocklist: {words: [b]}}"],
            "guardrails.options.blocklist.words: belongs in `guardrails.blocklist`",
        ),
        (
            ["guardrails.options={opa: {endpoint: 'https://opa.example/v1/data/a'}}"],
            "guardrails.options.opa.endpoint: belongs in `guardrails.opa_endpoint`",
        ),
        (
            ["guardrails.opa_endpoint=https://opa.example/v1/data/a", "guardrails.enabled=[pii]"],
            "guardrails.opa_endpoint: would have no effect: "
            "`guardrails.enabled` does not name 'opa'",
        ),
        (
            ["guardrails.enabled=[pii]", "guardrails.options={pii: {on_failure: ignore}}"],
            "guardrails.options.pii.on_failure: is neither `block` nor `allow`",
        ),
        (["models=[{path: a}, {name: b}]"], "models[1]: `path` is required here"),
        (["models=[{path: a}]", "model.name=b"], "model: has no path"),
        (
            ["models=[{path: a}, {path: 'hf://b'}]"],
            "models[1].path: hf://b is not of the form hf://org/repo or hf://org/repo/file",
        ),
        (["model.path=ollama://../x"], "model.path: 'ollama://../x' is not a name of a model"),
        (
            ["models=[{path: x/m.gguf}, {path: y/m.gguf}]"],
            "models[1]: a second model would be served as 'm'",
        ),
        (
            ["models=[{path: a}, {path: y, name: m}]", "model.path=x/m.gguf"],
            "models[1]: a second model would be served as 'm'",
        ),
    ],
)
def test_what_would_be_ambiguous_or_ignored_is_refused(flags: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, {}, flags)

    # The flag that set the value comes first.
    assert message in caught.value.message
    assert caught.value.message.startswith("flag -o ")
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ([], ()),
        ([KEY], ("api-keys",)),
        ([ISSUER], ("oidc",)),
        ([ISSUER, KEY], ("api-keys", "oidc")),
        ([ISSUER, KEY, "auth.providers=oidc,api-keys"], ("oidc", "api-keys")),
        (["auth.providers=ldap"], ("ldap",)),
        (["auth.providers=[]"], ()),
    ],
)
def test_providers_follow_from_their_settings(flags: list[str], names: tuple[str, ...]) -> None:
    assert auth_provider_names(load_config(None, {}, flags)) == names


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ([], ()),
        (["guardrails.blocklist=a"], ("blocklist",)),
        (["guardrails.enabled=pii,blocklist", "guardrails.blocklist=a"], ("pii", "blocklist")),
        (["guardrails.enabled=pii"], ("pii",)),
        (["guardrails.opa_endpoint=https://a/v1/data/b"], ("opa",)),
        (
            ["guardrails.opa_endpoint=https://a/v1/data/b", "guardrails.blocklist=a"],
            ("blocklist", "opa"),
        ),
    ],
)
def test_guardrails_follow_from_their_settings(flags: list[str], names: tuple[str, ...]) -> None:
    assert guardrail_names(load_config(None, {}, flags)) == names


def test_options_are_found_under_the_plugins_name() -> None:
    flags = [
        ISSUER,
        "auth.providers=ldap,oidc",
        "auth.options={ldap: {base: dc}}",
        "guardrails.enabled=pii,blocklist",
        "guardrails.blocklist=a,b",
        "guardrails.options={pii: {entities: [EMAIL]}}",
    ]
    config = load_config(None, {}, flags)

    assert auth_options(config, "ldap") == {"base": "dc"}
    assert auth_options(config, "oidc") == {"issuer": "https://id.example"}
    assert guardrail_options(config, "pii") == {"entities": ["EMAIL"]}
    assert guardrail_options(config, "blocklist") == {"words": ["a", "b"]}
    assert guardrail_options(config, "other") == {}


@pytest.mark.parametrize(
    ("options", "left", "rule"),
    [
        ("{}", {}, ("enforce", "block")),
        ("{action: flag}", {}, ("flag", "block")),
        ("{action: log, on_failure: allow}", {}, ("log", "allow")),
        ("{action: mask, on_failure: block}", {"action": "mask"}, ("enforce", "block")),
    ],
)
def test_what_a_guardrail_may_do_is_no_option_of_its_own(
    options: str, left: dict[str, str], rule: tuple[str, str]
) -> None:
    flags = ["guardrails.blocklist=a", f"guardrails.options={{blocklist: {options}}}"]
    config = load_config(None, {}, flags)
    assert guardrail_options(config, "blocklist") == {"words": ["a"], **left}
    assert guardrail_rule(config, "blocklist") == rule


def test_the_endpoint_is_an_option_of_opa() -> None:
    config = load_config(None, {}, ["guardrails.opa_endpoint=https://a/v1/data/b"])
    assert guardrail_options(config, "opa") == {"endpoint": "https://a/v1/data/b"}


@pytest.mark.parametrize(
    ("flags", "paths", "backend"),
    [
        ([], [None], "stub"),
        (["model.path=a"], ["a"], "cpu"),
        (["models=[{path: b}]"], ["b"], "cpu"),
        (["model.path=a", "models=[{path: b}]"], ["a", "b"], "cpu"),
        (["model.path=a", "runtime.backend=cuda"], ["a"], "cuda"),
        (["runtime.backend=echo"], [None], "echo"),
    ],
)
def test_models_and_their_backend(flags: list[str], paths: list[str | None], backend: str) -> None:
    config = load_config(None, {}, flags)

    assert [model.path for model in model_configs(config)] == paths
    assert backend_name(config) == backend
