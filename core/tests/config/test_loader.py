from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inferflux_core.config import Config, load_config
from inferflux_core.config.schema import ApiKeyConfig, ModelConfig
from inferflux_core.errors import ConfigError

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write `server.yaml` into the working directory and return its relative path."""
    monkeypatch.chdir(tmp_path)

    def write(content: str | bytes) -> Path:
        path = Path("server.yaml")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_no_file_means_defaults() -> None:
    assert load_config(None, {}, []) == Config()


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "\ufeffserver: {}\n"])
def test_an_empty_file_means_defaults(write: Write, text: str) -> None:
    assert load_config(write(text), {}, []) == Config()


def test_a_whole_file(write: Write) -> None:
    path = write(
        """\
server: {host: 0.0.0.0, port: 9000, receive_timeout: 5}
model: {path: models/a.gguf}
models:
  - {path: models/b.gguf, name: b}
runtime:
  backend: cpu
  kv_cache_type: q8_0
auth:
  api_keys:
    - {key: secret, scopes: [generate, read]}
  oidc: {issuer: https://id.example, audience: inferflux}
guardrails:
  enabled: [pii, blocklist]
  blocklist: [no]
  options:
    pii: {entities: [EMAIL]}
"""
    )

    config = load_config(path, {}, [])

    assert config.server.receive_timeout == 5.0
    assert config.models == [ModelConfig(path="models/b.gguf", name="b")]
    assert config.model.path == "models/a.gguf"
    assert config.auth.api_keys == [ApiKeyConfig(key="secret", scopes=["generate", "read"])]
    assert config.auth.oidc == {"issuer": "https://id.example", "audience": "inferflux"}
    assert config.guardrails.blocklist == ["no"]
    assert config.guardrails.options == {"pii": {"entities": ["EMAIL"]}}


BAD = {
    "unknown section": (
        "server: {}\nsevrer: {}\n",
        "server.yaml:2: sevrer: unknown key\n  hint: did you mean server?",
    ),
    "unknown key": (
        "server:\n  host: x\n  prot: 1\n",
        "server.yaml:3: server.prot: unknown key\n  hint: did you mean port?",
    ),
    "unknown key, nothing near": (
        "audit:\n  zzz: 1\n",
        "server.yaml:2: audit.zzz: unknown key\n  hint: known here: fsync, keep_days, max_file_bytes, path,",
    ),
    "unknown key with odd letters": (
        'server:\n  "a`b.c[0] - at `$.x": 1\n',
        "server.yaml:2: server.a`b.c[0] - at `$.x: unknown key",
    ),
    "wrong type": (
        "server:\n  port: many\n",
        "server.yaml:2: server.port: expected `int`, got `str`",
    ),
    "out of range": (
        "server:\n\n  port: 99999\n",
        "server.yaml:3: server.port: expected `int` <= 65535",
    ),
    "far out of range": (
        f"server:\n  receive_timeout: {'9' * 390}\n",
        "server.yaml:2: server.receive_timeout: number out of range",
    ),
    "bool is no number": (
        "runtime:\n  threads: true\n",
        "server.yaml:2: runtime.threads: expected `int | null`, got `bool`",
    ),
    "a word that was a bool": (
        "plugins:\n  strict: yes\n",
        "server.yaml:2: plugins.strict: expected `bool`, got `str`",
    ),
    "section is a value": (
        "model: x.gguf\n",
        "server.yaml:1: model: expected `object`, got `str`",
    ),
    "empty section": (
        "logging:\n",
        "server.yaml:1: logging: expected `object`, got `null`",
    ),
    "not one of": (
        "logging: {level: loud}\n",
        "server.yaml:1: logging.level: invalid enum value 'loud'\n"
        "  hint: one of: debug, error, info, warning",
    ),
    "in a list": (
        "auth:\n  api_keys:\n    - key: a\n      scopes: [read]\n    - key: b\n      scopes:\n"
        "        - read\n        - root\n",
        "server.yaml:8: auth.api_keys[1].scopes[1]: invalid enum value 'root'\n"
        "  hint: one of: adapters:write, admin, audit:read, generate, models:write, policy:read, "
        "policy:write, read",
    ),
    "missing": (
        "auth:\n  api_keys:\n    - key: a\n",
        "server.yaml:3: auth.api_keys[0]: `scopes` is required here",
    ),
    "options are a mapping": (
        "guardrails:\n  enabled: [pii]\n  options:\n    pii: 5\n",
        "server.yaml:3: guardrails.options.*: expected `object`, got `int`",
    ),
    "root is a list": ("- a\n", "server.yaml:1: must be a mapping of sections, such as `server:`"),
    "root is a word": ("hello\n", "server.yaml:1: must be a mapping"),
    "duplicate": (
        "server:\n  port: 1\n  port: 2\n",
        "server.yaml:3: server.port: set twice, first in line 2",
    ),
    "not YAML": ("server: {port: 1\n", "server.yaml:2: not valid YAML"),
    "not UTF-8": (b"model:\n  path: \xff\n", "server.yaml:2: not UTF-8 text"),
    "too large": (b"#" * (1024 * 1024 + 1), "server.yaml: larger than 1048576 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_line_and_path(write: Write, name: str) -> None:
    content, message = BAD[name]

    with pytest.raises(ConfigError) as caught:
        load_config(write(content), {}, [])

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("path", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_is_named(path: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: (No such file|Is a directory)"):
        load_config(Path(path), {}, [])


def test_flags_win_over_the_environment_which_wins_over_the_file(write: Write) -> None:
    path = write("server: {host: file, port: 1, drain_timeout: 3}\nruntime: {threads: 7}\n")
    env = {"INFERFLUX__SERVER__HOST": "env", "INFERFLUX__SERVER__PORT": "2"}

    config = load_config(path, env, ["server.port=3", "server.port=4"])

    assert (config.server.host, config.server.port) == ("env", 4)
    assert config.server.drain_timeout == 3.0
    assert config.runtime.threads == 7


def test_a_list_is_replaced_as_a_whole(write: Write) -> None:
    path = write("guardrails: {blocklist: [a, b]}\n")

    config = load_config(path, {"INFERFLUX_GUARDRAIL_BLOCKLIST": "c"}, [])

    assert config.guardrails.blocklist == ["c"]


def test_a_null_section_can_be_filled_from_the_environment(write: Write) -> None:
    path = write("auth: {oidc: null}\n")

    config = load_config(path, {"INFERFLUX_OIDC_ISSUER": "https://id.example"}, [])

    assert config.auth.oidc == {"issuer": "https://id.example"}


def test_a_section_does_not_replace_a_value(write: Write) -> None:
    path = write("\nserver: 5\n")

    with pytest.raises(ConfigError) as caught:
        load_config(path, {"INFERFLUX__SERVER__PORT": "9000"}, [])

    assert caught.value.message == (
        "environment variable INFERFLUX__SERVER__PORT: server: is not a section in server.yaml:2"
    )


@pytest.mark.parametrize(
    ("file", "env", "flags", "message"),
    [
        (
            "server: {port: 1}\n",
            {"INFERFLUX__SERVER__PORT": "x"},
            [],
            "environment variable INFERFLUX__SERVER__PORT: server.port: expected `int`, got `str`",
        ),
        (
            "server: {port: x}\n",
            {"INFERFLUX__SERVER__PORT": "x"},
            ["server.port=0x"],
            "flag -o server.port: server.port: expected `int`, got `str`",
        ),
        (
            "server: {prot: 1}\n",
            {"INFERFLUX__SERVER__PORT": "2"},
            [],
            "server.yaml:1: server.prot: unknown key",
        ),
        (
            "auth: {api_keys: [{key: a, scopes: [root]}]}\n",
            {},
            ["auth.api_keys=[{key: b, scopes: [boss]}]"],
            "flag -o auth.api_keys: auth.api_keys[0].scopes[0]: invalid enum value 'boss'",
        ),
    ],
)
def test_an_error_names_the_layer_that_set_the_value(
    write: Write, file: str, env: dict[str, str], flags: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(file), env, flags)

    assert caught.value.message.startswith(message)


def test_paths_stay_relative_to_the_working_directory(write: Write) -> None:
    path = write("model: {path: m.gguf}\naudit: {path: a.jsonl}\npolicy_store: p.db\n")

    config = load_config(path, {}, [])

    assert (config.model.path, config.audit.path, config.policy_store) == (
        "m.gguf",
        "a.jsonl",
        "p.db",
    )


def test_a_representation_holds_no_key(write: Write) -> None:
    keys = "api_keys: [{key: hunter2, scopes: [read], name: ci}]"
    oidc = "oidc: {introspection: {client_secret: hunter2}}"
    path = write(f"auth: {{{keys}, {oidc}}}\n")

    config = load_config(path, {}, [])

    assert "name='ci'" in repr(config.auth.api_keys)
    assert "hunter2" not in repr(config) + repr(config.auth.api_keys)


SECTIONS = ["server", "model", "models", "runtime", "auth", "guardrails", "audit", "plugins"]
KEYS = ["port", "path", "api_keys", "key", "scopes", "options", "enabled", "blocklist", "oidc"]
VALUES = ["read", "strict", "null", "true", "${env:X}", "1", "1e3", "-1", "x"]
WORDS = st.sampled_from(SECTIONS + KEYS + VALUES)
TREES = st.recursive(
    WORDS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(WORDS, inner, max_size=3).map(
            lambda items: f"{{{', '.join(f'{key}: {value}' for key, value in items.items())}}}"
        ),
    ),
    max_leaves=12,
)
NEAR_MISSES = st.dictionaries(st.sampled_from(SECTIONS), TREES).map(
    lambda items: "".join(f"{key}: {value}\n" for key, value in items.items())
)


@given(st.one_of(st.text(), TREES, NEAR_MISSES))
@example("model: {path: a}\nmodels: [{path: a}]\n")
@example("auth: {options: {oidc: {}}}\n")
def test_any_text_is_a_configuration_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(text.encode(errors="surrogatepass"))

    outcome: Config | str
    try:
        outcome = load_config(path, {"X": "value"}, [])
    except ConfigError as error:
        outcome = error.message

    assert isinstance(outcome, Config) or outcome.startswith(f"{path}:")
