from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferflux_core.config import Config, load_config
from inferflux_core.config.overrides import ENVIRONMENT
from inferflux_core.errors import ConfigError

VARIABLES = {
    "INFERFLUX_MODEL_PATH": ("123", lambda config: config.model.path, "123"),
    "INFERFLUX_RATE_LIMIT_PER_MINUTE": (
        "60",
        lambda config: config.rate_limit.requests_per_minute,
        60,
    ),
    "INFERFLUX_GUARDRAIL_BLOCKLIST": (
        "one, two words,,no ",
        lambda config: config.guardrails.blocklist,
        ["one", "two words", "no"],
    ),
    "INFERFLUX_AUDIT_LOG": ("audit.jsonl", lambda config: config.audit.path, "audit.jsonl"),
    "INFERFLUX_OIDC_ISSUER": (
        "https://id.example:8443",
        lambda config: config.auth.oidc["issuer"],
        "https://id.example:8443",
    ),
    "INFERFLUX_OIDC_AUDIENCE": ("0815", lambda config: config.auth.oidc["audience"], "0815"),
    "INFERFLUX_POLICY_STORE": ("policy.db", lambda config: config.policy_store, "policy.db"),
    "INFERFLUX_MPS_LAYERS": ("12", lambda config: config.runtime.mps_layers, 12),
}


def test_the_table_above_is_complete() -> None:
    assert set(VARIABLES) == set(ENVIRONMENT)


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_sets_its_key(name: str) -> None:
    text, read, value = VARIABLES[name]

    assert read(load_config(None, {name: text}, [])) == value


@pytest.mark.parametrize("name", VARIABLES)
def test_an_empty_variable_counts_as_unset(name: str) -> None:
    assert load_config(None, {name: ""}, []) == Config()


@pytest.mark.parametrize(
    "env",
    [
        {"INFERFLUX_POLICY_PASSPHRASE": "hunter2"},
        {"INFERFLUX_ENGINE_FD": "3"},
        {"INFERCTL_API_KEY": "hunter2"},
        {"PATH": "/bin"},
    ],
)
def test_variables_that_others_read_are_left_to_them(env: dict[str, str]) -> None:
    assert load_config(None, env, []) == Config()


def test_the_short_name_wins_over_the_generic_one() -> None:
    env = {"INFERFLUX_MODEL_PATH": "short", "INFERFLUX__MODEL__PATH": "generic"}

    assert load_config(None, env, []).model.path == "short"


SETTINGS = [
    ("server.host", "localhost", lambda config: config.server.host, "localhost"),
    ("server.port", "9000", lambda config: config.server.port, 9000),
    ("server.drain_timeout", "1e1", lambda config: config.server.drain_timeout, 10.0),
    ("plugins.strict", "true", lambda config: config.plugins.strict, True),
    ("logging.level", "debug", lambda config: config.logging.level, "debug"),
    ("model.name", "0x10", lambda config: config.model.name, "0x10"),
    ("runtime.threads", "null", lambda config: config.runtime.threads, None),
    ("model.name", "null", lambda config: config.model.name, None),
    ("auth.providers", "ldap,oidc", lambda config: config.auth.providers, ["ldap", "oidc"]),
    ("auth.providers", "[ldap]", lambda config: config.auth.providers, ["ldap"]),
    ("auth.providers", "null", lambda config: config.auth.providers, None),
    ("models", "[{path: a}]", lambda config: config.models[0].path, "a"),
    ("server", "{port: 1}", lambda config: config.server.port, 1),
    ("auth.oidc.leeway", "5", lambda config: config.auth.oidc["leeway"], 5),
    (
        "model.chat_template",
        "d.gguf",
        lambda config: config.model.chat_template,
        "d.gguf",
    ),
]


@pytest.mark.parametrize(("key", "text", "read", "value"), SETTINGS)
def test_a_flag_is_read_as_the_type_of_its_key(key, text, read, value) -> None:
    assert read(load_config(None, {}, [f"{key}={text}"])) == value


@pytest.mark.parametrize(("key", "text", "read", "value"), SETTINGS)
def test_a_generic_variable_is_read_likewise(key, text, read, value) -> None:
    name = f"INFERFLUX__{key.upper().replace('.', '__')}"

    assert read(load_config(None, {name: text}, [])) == value


def test_the_value_of_a_flag_may_hold_equals_signs() -> None:
    assert load_config(None, {}, ["model.name=a=b"]).model.name == "a=b"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "INFERFLUX_MODEL",
            "x",
            "no setting has this name\n  hint: did you mean INFERFLUX_MODEL_P",
        ),
        ("INFERFLUX_BLOCKLIST", "x", "INFERFLUX_GUARDRAIL_BLOCKLIST"),
        ("INFERFLUX_POLICY_PASSPHRAS", "hunter2", "did you mean INFERFLUX_POLICY_PASSPHRASE"),
        ("INFERFLUX_", "x", "no setting has this name"),
        ("INFERFLUX__", "x", "no setting has this name"),
        ("INFERFLUX__SERVER____PORT", "1", "no setting has this name"),
        ("INFERFLUX_SERVICE_HOST", "10.0.0.1", "enableServiceLinks: false"),
        ("INFERFLUX_PORT_8080_TCP_ADDR", "10.0.0.1", "enableServiceLinks: false"),
        ("INFERFLUX__SERVER__PROT", "1", "server.prot: unknown key\n  hint: did you mean port?"),
        ("INFERFLUX__MODELS__0__PATH", "x", "models: expected `array`, got `object`"),
        ("INFERFLUX__SERVER__PORT", "[", "not valid YAML"),
        ("INFERFLUX__MODEL__NAME", "a\udcff", "not valid UTF-8"),
        ("INFERFLUX_RATE_LIMIT_PER_MINUTE", "0", "requests_per_minute: expected `int` >= 1"),
        ("INFERFLUX_RATE_LIMIT_PER_MINUTE", "ten", "expected `int | null`, got `str`"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, {name: value}, [])

    assert str(caught.value).startswith(f"environment variable {name}: ")
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("empty", ["INFERFLUX_MODLE_PATH", "INFERFLUX__SERVER____PORT"])
def test_an_unknown_variable_is_refused_even_if_empty(empty: str) -> None:
    with pytest.raises(ConfigError, match="no setting has this name"):
        load_config(None, {empty: ""}, [])


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("server.port", "flag -o server.port: not of the form path=value"),
        ("=5", "flag -o : not of the form path=value"),
        ("server..port=5", "flag -o server..port: not of the form path=value"),
        ("server.prot=5", "flag -o server.prot: server.prot: unknown key"),
        ("server.port=x", "flag -o server.port: server.port: expected `int`, got `str`"),
        ("server.port.x=1", "flag -o server.port.x: server.port: expected `int`, got `object`"),
        ("server=5", "flag -o server: server: expected `object`, got `int`"),
    ],
)
def test_a_wrong_flag_is_named(flag: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, {}, [flag])

    assert caught.value.message.startswith(message)


@given(
    st.sampled_from(
        ["SERVER__PORT", "MODEL__PATH", "AUTH__API_KEYS", "GUARDRAILS__OPTIONS", "MODELS", "X"]
    ),
    st.text(st.characters(codec=None, exclude_characters="\x00")),
)
def test_any_value_is_accepted_or_refused_by_name(key: str, text: str) -> None:
    name = f"INFERFLUX__{key}"
    outcome: Config | str
    try:
        outcome = load_config(None, {name: text}, [])
    except ConfigError as error:
        outcome = error.message

    assert isinstance(outcome, Config) or name in outcome
