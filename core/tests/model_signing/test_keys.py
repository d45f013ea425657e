"""Keys and the commands that use them."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from inferflux_core.errors import ConfigError
from inferflux_core.model_signing.__main__ import main
from inferflux_core.model_signing.keys import SigningKey, TrustedKeys, read_public_key


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    status = main([*map(str, arguments), "--json"])
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return status, answer


def test_keys_are_made_used_and_kept(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, public = tmp_path / "k", tmp_path / "k.pub"
    status, made = run(capsys, "keygen", "--out", key, "--curve", "p384")
    assert (status, made["public_key"]) == (0, str(public))
    assert [path.stat().st_mode & 0o777 for path in (key, public)] == [0o600, 0o644]
    assert "PRIVATE" in key.read_text()
    assert "PRIVATE" not in public.read_text()

    status, signed = run(capsys, "sign", model, "--key", key)
    assert (status, signed["files"], signed["key_id"]) == (0, 1, made["key_id"])
    assert Path(signed["signature"]).stat().st_mode & 0o777 == 0o644
    status, verified = run(capsys, "verify", model, "--public-key", public)
    assert (status, verified["verified"], verified["key_id"]) == (0, True, made["key_id"])

    model.write_bytes(b"GGUG")
    status, refused = run(capsys, "verify", model, "--public-key", public)
    assert (status, refused["verified"]) == (1, False)
    assert "m.gguf is not what was signed" in refused["error"]


def test_nothing_is_overwritten(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, public = tmp_path / "k", tmp_path / "k.pub"
    assert main(["keygen", "--out", str(key)]) == 0
    assert main(["sign", str(model), "--key", str(key)]) == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for command in (["keygen", "--out", key], ["sign", model, "--key", key]):
        assert main(list(map(str, command))) == 2
        assert "exists already" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}
    public.unlink()
    assert main(["keygen", "--out", str(key)]) == 2
    assert not public.exists()


def test_what_people_read(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, stranger = tmp_path / "k", tmp_path / "s"
    for path in (key, stranger):
        assert main(["keygen", "--out", str(path)]) == 0
    assert main(["verify", str(model), "--public-key", f"{key}.pub"]) == 1
    assert "inferctl models sign m.gguf" in capsys.readouterr().err
    assert main(["sign", str(model), "--key", str(key)]) == 0
    assert main(["verify", str(model), "--public-key", f"{key}.pub"]) == 0
    assert "1 file as signed with the key" in capsys.readouterr().out
    assert main(["verify", str(model), "--public-key", f"{stranger}.pub"]) == 1
    assert "trusted are" in capsys.readouterr().err
    assert main(["verify", str(model), "--public-key", str(key)]) == 2
    assert "is a private key" in capsys.readouterr().err
    assert main(["sign", str(model), "--key", str(key), "--ignore", "x"]) == 2
    assert main(["sign", str(tmp_path), "--key", str(key), "--ignore", "../x"]) == 2
    assert "not a path inside" in capsys.readouterr().err


def private(key: Any, encryption: Any = None) -> bytes:
    data: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    return data


EC = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (private(RSA), "not a key on the curve"),
        (private(ed25519.Ed25519PrivateKey.generate()), "not a key on the curve"),
        (private(ec.generate_private_key(ec.SECP256K1())), "not a key on the curve"),
        (private(EC, BestAvailableEncryption(b"x")), "protected by a password"),
        (b"", "no private key"),
        (b"\x00" * 100_000, "too large"),
    ],
)
def test_private_keys_that_cannot_sign(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "k"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        SigningKey.read(path)


def test_a_private_key_is_private(tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.write_bytes(private(EC))
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="can be read by other accounts"):
        SigningKey.read(path)
    path.chmod(0o600)
    assert SigningKey.read(path).private_pem == private(EC)
    assert "PRIVATE" not in repr(SigningKey.read(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (private(EC), "is a private key"),
        (RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1), "not a key on the curve"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no public key"),
        (b"no key", "no public key"),
        (b"\xff", "no public key"),
    ],
)
def test_public_keys_that_are_none(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "k"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_public_key(path)


def test_key_files_that_are_not_there(tmp_path: Path) -> None:
    read: tuple[Callable[[Path], object], ...] = (read_public_key, SigningKey.read)
    for attempt in read:
        for path in (tmp_path / "none", tmp_path, Path("a\0b")):
            with pytest.raises(ConfigError, match=r"cannot be read|regular file"):
                attempt(path)


def test_of_a_certificate_the_key_counts(tmp_path: Path) -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "signer")])
    long_ago = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, EC.public_key(), 1)
        .not_valid_before(long_ago)
        .not_valid_after(long_ago + datetime.timedelta(1))
        .sign(EC, hashes.SHA256())
    )
    path = tmp_path / "signer.pem"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    assert TrustedKeys([read_public_key(path)]).ids == [SigningKey(EC).key_id]


def test_without_the_library_nothing_is_verified(
    monkeypatch: pytest.MonkeyPatch, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "inferflux_core.model_signing.keys", None)
    assert main(["verify", str(model), "--public-key", "k"]) == 2
    assert "pip install 'inferflux-core[signing]'" in capsys.readouterr().err
