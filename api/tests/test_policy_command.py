"""`python -m inferflux_api.policy`: a store is looked after without a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from inferflux_api.governance.authentication import ApiKeys
from inferflux_api.governance.policy.document import Policy
from inferflux_api.governance.policy.opening import open_policy_store, store_at
from inferflux_api.governance.policy.store import NEXT_PASSPHRASE, PASSPHRASE
from inferflux_api.policy import main
from inferflux_core.auth import Principal
from inferflux_core.config.schema import (
    DEFAULT_POLICY_STORE,
    ApiKeyConfig,
    AuthConfig,
    Config,
)
from inferflux_core.errors import ConfigError

SECRET = "correct horse battery staple"
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policy.bin"


@pytest.fixture
def policy(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Run the command on a readable store; returns status, output and messages."""
    monkeypatch.delenv(PASSPHRASE, raising=False)

    def run(name: str, *arguments: str) -> tuple[int, str, str]:
        status = main([name, "--store", str(path), *arguments])
        output = capsys.readouterr()
        return status, output.out.strip(), output.err

    return run


def stored(path: Path, passphrase: str = "") -> Policy:
    snapshot = store_at(str(path), {PASSPHRASE: passphrase}).load()
    assert snapshot is not None
    return snapshot.policy


def test_a_new_store_has_one_key_for_everything(policy: Command, path: Path) -> None:
    status, key, note = policy("init")
    assert status == 0
    assert key not in note
    assert ApiKeys([], stored(path)).find(key) == Principal(
        "admin", frozenset({"admin"}), "default", "api-keys"
    )


def test_a_key_is_shown_once(policy: Command, path: Path) -> None:
    policy("init")
    status, key, note = policy("add-key", "--name", "ops", "--scope", "admin", "--scope", "read")
    assert status == 0
    kind, identifier, secret = key.split("_")
    assert (kind, len(secret)) == ("ifx", 64)
    assert key not in note
    kept = stored(path)
    principal = ApiKeys([], kept).find(key)
    assert principal == Principal("ops", frozenset({"admin", "read"}), "default", "api-keys")

    for flag in ((), ("--json",)):
        _, shown, _ = policy("show", *flag)
        assert identifier in shown
        assert secret not in shown
        for hidden in (kept.pepper, kept.api_keys[0].digest):
            assert msgspec.json.encode(hidden).decode().strip('"') not in shown
            assert hidden.hex() not in shown


def test_answers_for_programs(policy: Command) -> None:
    policy("init")
    added = json.loads(policy("add-key", "--name", "a", "--scope", "read", "--json")[1])
    assert added["key"].startswith(f"ifx_{added['id']}_")
    shown = json.loads(policy("show", "--json")[1])
    assert shown["generation"] == added["generation"] == 2
    assert shown["sealed"] is False
    assert [key["name"] for key in shown["api_keys"]] == ["admin", "a"]
    removed = json.loads(policy("remove-key", added["id"], "--json")[1])
    assert removed == {"id": added["id"], "generation": 3}
    history = json.loads(policy("history", "--json")[1])["generations"]
    assert [(entry["generation"], entry["what"]) for entry in history] == [
        (3, f"remove the key {added['id']}"),
        (2, "add the key a"),
        (1, "create the store"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("init",), "exists already"),
        (("remove-key", "00000000"), "no API key '00000000'"),
        (("add-key", "--name", "admin", "--scope", "read"), "is a key named 'admin'"),
        (("add-key", "--name", "a\nb", "--scope", "read"), "name"),
        (("rotate",), NEXT_PASSPHRASE),
    ],
)
def test_what_the_command_refuses(
    policy: Command, path: Path, arguments: tuple[str, ...], message: str
) -> None:
    policy("init")
    before = path.read_bytes()
    status, output, said = policy(*arguments)
    assert (status, output) == (1, "")
    assert message in said
    assert path.read_bytes() == before


def test_the_variables_seal(path: Path, policy: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    policy("init")
    assert b"api_keys" in path.read_bytes()
    monkeypatch.setenv(NEXT_PASSPHRASE, SECRET)
    assert policy("rotate")[0] == 0
    assert path.read_bytes().startswith(b"IFPS\x01")
    assert stored(path, SECRET).generation == 2
    monkeypatch.delenv(NEXT_PASSPHRASE)
    status, _, said = policy("show")
    assert status == 1
    assert "is sealed" in said


def test_help_has_examples_and_no_flag_for_the_passphrase(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "policy add-key --store policy.bin --name" in text
    assert "--passphrase" not in text


# ------------------------------------------------------------------------------------ a server's store


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_start_makes_a_key_if_nobody_could_administer(here: Path) -> None:
    opened = open_policy_store(Config(), {})
    assert opened.first_key is not None
    assert opened.first_key not in repr(opened)
    principal = ApiKeys([], stored(here / DEFAULT_POLICY_STORE)).find(opened.first_key)
    assert principal is not None
    assert principal.allows("policy:write")
    assert open_policy_store(Config(), {}).first_key is None


@pytest.mark.parametrize(
    "auth",
    [
        AuthConfig(api_keys=[ApiKeyConfig(key="k", scopes=["admin"])]),
        AuthConfig(
            api_keys=[ApiKeyConfig(key="k", scopes=[], roles=["ops"])], roles={"ops": ["admin"]}
        ),
        AuthConfig(oidc={"issuer": "https://id"}),
    ],
)
def test_no_key_is_made_where_somebody_can_administer(here: Path, auth: AuthConfig) -> None:
    opened = open_policy_store(Config(auth=auth), {})
    assert opened.store is not None
    assert opened.first_key is None
    assert list(here.iterdir()) == []


def test_a_store_of_another_name_has_to_be_there(here: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist") as caught:
        open_policy_store(Config(policy_store="elsewhere.bin"), {})
    assert "python -m inferflux_api.policy init --store elsewhere.bin" in str(caught.value)
    assert list(here.iterdir()) == []


def test_there_may_be_no_store(here: Path) -> None:
    assert open_policy_store(Config(policy_store=None), {}).store is None


def test_a_short_passphrase_is_refused(here: Path) -> None:
    with pytest.raises(ConfigError, match="shorter than 16"):
        open_policy_store(Config(), {PASSPHRASE: "fifteen letters"})
    assert list(here.iterdir()) == []
