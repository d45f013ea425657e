from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import logging
import os
import resource
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from inferflux_api.governance import sealing
from inferflux_api.governance.authentication import ApiKeys
from inferflux_api.governance.policy import Policy, apply_policy, decode_policy, new_policy
from inferflux_api.governance.policy_store import PASSPHRASE, PolicyStore
from inferflux_api.policy import main
from inferflux_api.server import Server
from inferflux_core.auth import Principal
from inferflux_core.config.schema import (
    ApiKeyConfig,
    AuthConfig,
    Config,
    GuardrailsConfig,
    RateLimitConfig,
    RuntimeConfig,
)
from inferflux_core.errors import ConfigError, StartupError

SECRET = "correct horse battery staple"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policy.bin"


@pytest.fixture
def plain(path: Path) -> PolicyStore:
    """A readable store, not created yet."""
    return PolicyStore(path, None)


@pytest.fixture(scope="module")
def sealed_bytes() -> bytes:
    policy, _, _ = replace(new_policy(), generation=6).add_key("ops", ["admin"], "acme")
    document = msgspec.json.encode(policy)
    return sealing.seal(document, SECRET, store=str(policy.store), generation=6)


def with_bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def refused(path: Path, passphrase: str | None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        PolicyStore(path, passphrase).load()
    return caught.value


# ------------------------------------------------------------------------------------ contents


@pytest.mark.parametrize("passphrase", [None, SECRET])
def test_what_is_written_is_read(path: Path, passphrase: str | None) -> None:
    policy, _, key = new_policy(RateLimitConfig(requests_per_minute=5), ["b"]).add_key(
        "ops", ["admin"], "acme"
    )
    written = PolicyStore(path, passphrase).commit(policy)
    assert written.generation == 1
    assert PolicyStore(path, passphrase).load() == written
    content = path.read_bytes()
    assert key.encode() not in content
    assert key.rpartition("_")[2].encode() not in content
    assert (b"acme" in content) is (passphrase is None)
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_seals_of_one_document_share_nothing_secret() -> None:
    one, two = (sealing.seal(b"{}" * 99, SECRET, store="s", generation=1) for _ in range(2))
    assert sealing.unseal(one, SECRET) == sealing.unseal(two, SECRET)
    header_end = one.index(b'"gen":1}') + 8
    assert one[header_end + 2 : header_end + 62] != two[header_end + 2 : header_end + 62]
    assert one[-200:] != two[-200:]


def test_a_representation_shows_no_secret() -> None:
    policy, _, key = new_policy().add_key("ops", ["admin"], "acme")
    shown = f"{policy!r} {policy.api_keys!r}"
    assert repr(policy.pepper) not in shown
    assert repr(policy.api_keys[0].digest) not in shown
    assert key not in shown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "unknown version"),
        ({"version": None}, "unknown version"),
        ({"pepper": None}, "pepper"),
        ({"pepper": "c2hvcnQ="}, "pepper"),
        ({"generation": 0}, "generation"),
        ({"store": "here"}, "store"),
        ({"key": 1}, "unknown key"),
        ({"rate_limit": {"requests_per_minute": 0}}, r"rate_limit\.requests_per_minute"),
        ({"guardrails": {"blocklist": "word"}}, r"guardrails\.blocklist"),
        ({"api_keys": [{"id": "x"}]}, r"api_keys\[0\]"),
    ],
)
def test_a_readable_store_is_checked(
    plain: PolicyStore, path: Path, change: dict[str, Any], message: str
) -> None:
    plain.commit(new_policy())
    with_bytes(path, json.dumps(json.loads(path.read_bytes()) | change).encode())
    with pytest.raises(ConfigError, match=message) as caught:
        plain.load()
    assert str(path) in caught.value.message


@pytest.mark.parametrize("same", ["id", "name"])
def test_two_keys_are_told_apart(same: str) -> None:
    policy, _, _ = replace(new_policy(), generation=1).add_key("one", ["read"], "default")
    policy, _, _ = policy.add_key("two", ["read"], "default")
    tree = json.loads(msgspec.json.encode(policy))
    tree["api_keys"][1][same] = tree["api_keys"][0][same]
    with pytest.raises(ConfigError, match=f"same {same}"):
        decode_policy(json.dumps(tree).encode())


# ------------------------------------------------------------------------------------ refusals


def test_a_missing_store_says_how_to_make_one(path: Path) -> None:
    error = refused(path, None)
    assert "does not exist" in error.message
    assert f"python -m inferflux_api.policy init --store {path}" in str(error)


def test_a_short_passphrase_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="shorter than 16") as caught:
        PolicyStore(path, "fifteen letters")
    assert "fifteen letters" not in str(caught.value)


def test_seal_and_passphrase_go_together(path: Path, sealed_bytes: bytes) -> None:
    error = refused(with_bytes(path, sealed_bytes), None)
    assert "is sealed" in error.message
    assert PASSPHRASE in (error.hint or "")
    path.unlink()
    PolicyStore(path, None).commit(new_policy())
    assert "is not sealed" in refused(path, SECRET).message


def test_a_wrong_passphrase_is_told_from_damage(path: Path, sealed_bytes: bytes) -> None:
    error = refused(with_bytes(path, sealed_bytes), SECRET + "!")
    assert "another passphrase" in error.message
    assert PASSPHRASE in (error.hint or "")


def test_every_damaged_byte_is_noticed(sealed_bytes: bytes) -> None:
    for place in range(len(sealed_bytes)):
        for flip in (0x01, 0x80):
            damaged = bytearray(sealed_bytes)
            damaged[place] ^= flip
            # A checksum comes before the passphrase: none of these costs a key derivation.
            with pytest.raises(ConfigError, match=r"damaged|version"):
                sealing.unseal(bytes(damaged), SECRET)


@pytest.mark.parametrize("place", [0, 1, 4, 8, 40, 150, 230, 300, 400, -40, -1])
def test_a_damaged_file_is_refused(path: Path, sealed_bytes: bytes, place: int) -> None:
    damaged = bytearray(sealed_bytes)
    damaged[place] ^= 0x10
    message = refused(with_bytes(path, bytes(damaged)), SECRET).message
    assert "version" in message if place == 4 else "damaged" in message


@pytest.mark.parametrize("size", [0, 1, 4, 5, 9, 100, -33, -32, -1])
def test_a_truncated_file_is_refused(path: Path, sealed_bytes: bytes, size: int) -> None:
    error = refused(with_bytes(path, sealed_bytes[:size]), SECRET)
    assert "passphrase" not in error.message
    assert error.hint


def checksummed(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()


@pytest.mark.slow
@given(st.data())
@settings(max_examples=12, deadline=None)
def test_what_was_altered_with_care_is_refused_too(sealed_bytes: bytes, data: Any) -> None:
    """Somebody who also corrects the checksum meets the authenticated encryption."""
    altered = bytearray(sealed_bytes[:-32])
    place = data.draw(st.integers(5, len(altered) - 1))
    altered[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ConfigError):
        sealing.unseal(checksummed(bytes(altered)), SECRET)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"gen":6', b'"gen":7'), (b'"alg":"AES-256-GCM"', b'"alg":"AES-256-CBC"')],
)
def test_the_header_cannot_be_rewritten(sealed_bytes: bytes, old: bytes, new: bytes) -> None:
    assert sealed_bytes.count(old) == 1
    with pytest.raises(ConfigError, match="altered"):
        sealing.unseal(checksummed(sealed_bytes[:-32].replace(old, new)), SECRET)


def test_the_body_of_another_store_does_not_fit(sealed_bytes: bytes) -> None:
    other = sealing.seal(b"{}", SECRET, store="other", generation=6)
    cut = sealed_bytes.index(b'"gen":6}') + 8
    other_cut = other.index(b'"gen":6}') + 8
    with pytest.raises(ConfigError, match="altered"):
        sealing.unseal(checksummed(sealed_bytes[:cut] + other[other_cut:-32]), SECRET)


@pytest.mark.parametrize(
    "change", [{"m": 2**40}, {"m": 8}, {"t": 0}, {"t": 11}, {"p": 17}, {"salt": "AAAA"}, {"n": "x"}]
)
def test_costs_are_bounded_before_they_are_paid(
    sealed_bytes: bytes, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "Argon2id", None)  # calling it would be a TypeError
    (size,) = struct.unpack_from(">I", sealed_bytes, 5)
    header = json.loads(sealed_bytes[9 : 9 + size])
    header["kdf"] |= change
    encoded = json.dumps(header).encode()
    content = sealed_bytes[:5] + struct.pack(">I", len(encoded)) + encoded
    with pytest.raises(ConfigError, match="altered"):
        sealing.unseal(checksummed(content + sealed_bytes[9 + size : -32]), SECRET)


def a_directory(path: Path) -> None:
    path.mkdir()


def a_fifo(path: Path) -> None:
    os.mkfifo(path, 0o600)


def a_link(path: Path) -> None:
    PolicyStore(path.with_name("real"), None).commit(new_policy())
    path.symlink_to("real")


def a_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def readable_by(mode: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        PolicyStore(path, None).commit(new_policy())
        path.chmod(mode)

    return make


def an_open_folder(path: Path) -> None:
    PolicyStore(path, None).commit(new_policy())
    path.parent.chmod(0o777)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (a_directory, "directory"),
        (a_fifo, "not a regular file"),
        (a_link, "symbolic link"),
        (a_dangling_link, "symbolic link"),
        (readable_by(0o640), "other accounts"),
        (readable_by(0o604), "other accounts"),
        (readable_by(0o620), "other accounts"),
        (an_open_folder, "every account can change"),
    ],
)
def test_an_unsafe_file_is_neither_read_nor_replaced(
    path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(path)
    assert message in refused(path, None).message.lower()
    with pytest.raises(ConfigError):
        PolicyStore(path, None).commit(new_policy())


# ------------------------------------------------------------------------------------ writing


def test_nothing_is_lost_when_two_people_write(plain: PolicyStore) -> None:
    first = plain.commit(new_policy())
    mine, _, _ = first.add_key("mine", ["read"], "default")
    yours, _, _ = first.add_key("yours", ["read"], "default")
    plain.commit(mine)
    with pytest.raises(ConfigError, match="meanwhile"):
        plain.commit(yours)
    assert [key.name for key in plain.load().api_keys] == ["mine"]


def test_a_new_store_replaces_none(plain: PolicyStore, path: Path) -> None:
    first = plain.commit(new_policy())
    with pytest.raises(ConfigError, match="exists already"):
        plain.commit(new_policy())
    with pytest.raises(ConfigError, match="meanwhile"):
        plain.commit(replace(new_policy(), generation=first.generation))
    with_bytes(path, b"\0" * 100)
    with pytest.raises(ConfigError, match="damaged"):
        plain.commit(new_policy())
    assert path.read_bytes() == b"\0" * 100


def test_a_wrong_passphrase_overwrites_nothing(path: Path) -> None:
    policy = PolicyStore(path, SECRET).commit(new_policy())
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="another passphrase"):
        PolicyStore(path, SECRET + "!").commit(policy)
    assert path.read_bytes() == before


def test_what_could_not_be_read_back_is_not_written(plain: PolicyStore, path: Path) -> None:
    policy, _, _ = new_policy().add_key("one\x1b[31m", ["read"], "default")
    with pytest.raises(ConfigError, match=r"api_keys\[0\]\.name"):
        plain.commit(policy)
    assert not path.exists()


class FakeOs:
    """Functions of `os` of which the n-th call goes wrong, and all later ones if it is a crash."""

    NAMES = ("open", "close", "stat", "lstat", "fstat", "fsync", "replace", "unlink")

    def __init__(self, failing: int, fail: Callable[[], None], *, late: bool) -> None:
        self.calls: list[str] = []
        self._failing = failing
        self._fail = fail
        self._late = late

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name in self.NAMES:
            patch.setattr(os, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            due = len(self.calls) == self._failing
            if due and not self._late:
                self._fail()
            try:
                return real(*args, **kwargs)
            finally:
                if due and self._late:
                    self._fail()

        return call


def input_output_error() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def power_off() -> None:
    os._exit(17)


def commit_with(store: PolicyStore, policy: Policy, layer: FakeOs) -> ConfigError | None:
    with pytest.MonkeyPatch.context() as patch:
        layer.install(patch)
        try:
            store.commit(policy)
        except ConfigError as error:
            return error
    return None


def prepared(store: PolicyStore) -> tuple[Policy, Policy, int]:
    """An old policy, in place; a new one to commit; the number of system calls that takes."""
    old = store.commit(new_policy())
    new, _, _ = old.add_key("new", ["admin"], "default")
    counter = FakeOs(0, input_output_error, late=False)
    rehearsal = PolicyStore(store.path.with_name("rehearsal"), None)
    commit_with(rehearsal, replace(rehearsal.commit(new_policy()), api_keys=[]), counter)
    # The content is on the disk before it gets its name, and the name before the change is reported.
    assert [c for c in counter.calls if c in ("fsync", "replace")] == ["fsync", "replace", "fsync"]
    return old, new, len(counter.calls)


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_an_error_in_any_call_leaves_the_old_policy_or_the_new(
    plain: PolicyStore, late: bool
) -> None:
    old, new, calls = prepared(plain)
    original = plain.path.read_bytes()
    outcomes = set()
    for failing in range(1, calls + 1):
        with_bytes(plain.path, original)
        error = commit_with(plain, new, FakeOs(failing, input_output_error, late=late))
        found = plain.load()
        assert found in (old, replace(new, generation=2))
        if error is None:
            assert found.generation == 2, "what was acknowledged is lost"
        outcomes.add((error is None, found.generation))
        assert not Path(f"{plain.path}.tmp").exists()
    assert (False, 1) in outcomes
    # And the store goes on working.
    with_bytes(plain.path, original)
    assert plain.commit(new) == plain.load()


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_crash_in_any_call_leaves_the_old_policy_or_the_new(
    plain: PolicyStore, late: bool
) -> None:
    old, new, calls = prepared(plain)
    original = plain.path.read_bytes()
    generations = set()
    for failing in range(1, calls + 1):
        with_bytes(plain.path, original)
        child = os.fork()
        if child == 0:
            commit_with(plain, new, FakeOs(failing, power_off, late=late))
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
        found = plain.load()
        assert found in (old, replace(new, generation=2))
        generations.add(found.generation)
        # The next change succeeds, over whatever the crash left.
        plain.commit(found)
        assert not Path(f"{plain.path}.tmp").exists()
    assert generations == {1, 2}


def test_a_full_disk_leaves_the_old_policy(plain: PolicyStore) -> None:
    old = plain.commit(new_policy())
    before = plain.path.read_bytes()
    new, _, _ = old.add_key("new", ["admin"], "default")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(ConfigError, match="cannot be written: File too large"):
            plain.commit(new)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert plain.path.read_bytes() == before
    assert not Path(f"{plain.path}.tmp").exists()
    plain.commit(new)


# ------------------------------------------------------------------------------------ effect


def test_keys_of_store_and_configuration_work_side_by_side() -> None:
    policy, identifier, key = new_policy().add_key("stored", ["read"], "acme")
    keys = ApiKeys([ApiKeyConfig(key="plain", scopes=["admin"], name="listed")], policy)

    def who(credential: str) -> Principal | None:
        return asyncio.run(keys.authenticate(credential))

    assert who(key) == Principal("stored", frozenset({"read"}), "acme", "api-keys")
    assert who("plain") == Principal("listed", frozenset({"admin"}), "default", "api-keys")
    for wrong in (key[:-1], key.upper(), key.rpartition("_")[2], f"ifx_{identifier}_", ""):
        assert who(wrong) is None


def test_a_stored_hash_is_no_key() -> None:
    policy, _, _ = new_policy().add_key("stored", ["read"], "acme")
    keys = ApiKeys([], policy)
    digest = policy.api_keys[0].digest
    for spelling in (digest.hex(), msgspec.json.encode(digest).decode().strip('"')):
        assert asyncio.run(keys.authenticate(spelling)) is None


def test_the_policy_wins_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    config = Config(
        auth=AuthConfig(providers=["oidc"], oidc={}),
        guardrails=GuardrailsConfig(enabled=["pii"]),
        rate_limit=RateLimitConfig(requests_per_minute=1),
    )
    limit = RateLimitConfig(requests_per_minute=9)
    policy, _, _ = new_policy(limit, ["swordfish"]).add_key("ops", ["admin"], "acme")
    applied = apply_policy(config, policy)
    assert applied.auth.providers == ["api-keys", "oidc"]
    assert applied.rate_limit == limit
    assert applied.guardrails.blocklist == ["swordfish"]
    assert applied.guardrails.enabled == ["blocklist", "pii"]
    assert "its rate_limit replaces" in caplog.text
    assert "its guardrails.blocklist replaces" in caplog.text
    assert "swordfish" not in caplog.text


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


def test_a_server_does_not_start_without_its_store(path: Path) -> None:
    config = Config(runtime=RuntimeConfig(backend="stub"), policy_store=str(path))
    with pytest.raises(StartupError, match="does not exist"):
        Server(config)


def test_a_passphrase_without_a_store_is_mentioned(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(Config(runtime=RuntimeConfig(backend="stub")), SECRET)
    asyncio.run(server.stop())
    assert f"{PASSPHRASE} has no effect" in caplog.text
    assert SECRET not in caplog.text


# ------------------------------------------------------------------------------------ command


@pytest.fixture
def policy(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Run the command on a readable store; returns status, output and messages."""
    monkeypatch.delenv(PASSPHRASE, raising=False)

    def run(name: str, *arguments: str) -> tuple[int, str, str]:
        status = main([name, "--store", str(path), *arguments])
        output = capsys.readouterr()
        return status, output.out.strip(), output.err

    assert run("init")[0] == 0
    return run


Command = Callable[..., tuple[int, str, str]]


def test_a_key_is_shown_once(policy: Command, plain: PolicyStore) -> None:
    status, key, note = policy("add-key", "--name", "ops", "--scope", "admin", "--scope", "read")
    assert status == 0
    kind, identifier, secret = key.split("_")
    assert (kind, len(secret)) == ("ifx", 64)
    assert key not in note
    stored = plain.load()
    principal = asyncio.run(ApiKeys([], stored).authenticate(key))
    assert principal == Principal("ops", frozenset({"admin", "read"}), "default", "api-keys")

    for flag in ((), ("--json",)):
        _, shown, _ = policy("show", *flag)
        assert identifier in shown
        assert secret not in shown
        for hidden in (stored.pepper, stored.api_keys[0].digest):
            assert msgspec.json.encode(hidden).decode().strip('"') not in shown
            assert hidden.hex() not in shown


def test_answers_for_programs(policy: Command) -> None:
    added = json.loads(policy("add-key", "--name", "a", "--scope", "read", "--json")[1])
    assert added["key"].startswith(f"ifx_{added['id']}_")
    shown = json.loads(policy("show", "--json")[1])
    assert shown["generation"] == added["generation"] == 2
    assert shown["sealed"] is False
    assert shown["api_keys"] == [
        {"id": added["id"], "name": "a", "tenant": "default", "scopes": ["read"]}
    ]
    removed = json.loads(policy("remove-key", added["id"], "--json")[1])
    assert removed == {"id": added["id"], "generation": 3}


def test_the_last_administrator_stays(policy: Command, plain: PolicyStore) -> None:
    first, second = (
        json.loads(policy("add-key", "--name", name, "--scope", "admin", "--json")[1])["id"]
        for name in ("one", "two")
    )
    other = json.loads(policy("add-key", "--name", "x", "--scope", "read", "--json")[1])["id"]
    assert policy("remove-key", first)[0] == 0
    status, _, message = policy("remove-key", second)
    assert status == 1
    assert "last key with scope admin" in message
    assert policy("remove-key", other)[0] == 0
    assert [key.id for key in plain.load().api_keys] == [second]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("init",), "exists already"),
        (("remove-key", "00000000"), "no key '00000000'"),
        (("add-key", "--name", "ops", "--scope", "read"), "is a key named 'ops'"),
        (("add-key", "--name", "a\nb", "--scope", "read"), "name"),
    ],
)
def test_what_the_command_refuses(
    policy: Command, path: Path, arguments: tuple[str, ...], message: str
) -> None:
    policy("add-key", "--name", "ops", "--scope", "admin")
    before = path.read_bytes()
    status, output, said = policy(*arguments)
    assert (status, output) == (1, "")
    assert message in said
    assert path.read_bytes() == before


def test_the_variable_seals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSPHRASE, SECRET)
    path = tmp_path / "sealed.bin"
    arguments = ["init", "--store", str(path), "--requests-per-minute", "7", "--block", "swordfish"]
    assert main(arguments) == 0
    assert "sealed" in capsys.readouterr().out
    assert path.read_bytes().startswith(b"IFPS\x01")
    assert b"swordfish" not in path.read_bytes()
    found = PolicyStore(path, SECRET).load()
    assert found.rate_limit == RateLimitConfig(requests_per_minute=7)
    assert found.guardrails.blocklist == ["swordfish"]


def test_help_has_examples_and_no_flag_for_the_passphrase(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "policy add-key --store policy.bin --name" in text
    assert "--passphrase" not in text
