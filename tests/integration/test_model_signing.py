"""Signed models: a server that wants them, and OpenSSF's own signer and verifier."""

from __future__ import annotations

import datetime
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from support.own_environment import own_environment
from support.servers import KEYS, RunningServer, command, environment, running_server
from support.tiny_gguf import write_gguf

from inferflux_core.model_signing.__main__ import main

# It does not import without pyopenssl, which it does not ask for.
OPENSSF = ["model-signing==1.1.1", "sigstore==4.5.1", "pyopenssl==26.4.0"]


def inferctl(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "inferflux_cli", "models", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def ours(*arguments: object) -> None:
    """What `inferctl models` runs, without a process."""
    assert main(list(map(str, arguments))) == 0


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key; the public one is beside it."""
    path = tmp_path_factory.mktemp("keys") / "release.key"
    done = inferctl("keygen", "--out", path)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for name in ("a-00001-of-00002.gguf", "a-00002-of-00002.gguf", "notes", "sub/b.json"):
        (folder / name).write_text(name)
    (folder / ".gitattributes").touch()
    return folder


# ------------------------------------------------------------------------- the real package


@pytest.fixture(scope="module")
def openssf(request: pytest.FixtureRequest) -> Path:
    return own_environment(request.config, OPENSSF) / "bin" / "model_signing"


def theirs(openssf: Path, *arguments: object) -> str:
    done = subprocess.run(
        [openssf, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_openssf_verifies_what_we_sign(openssf: Path, key: Path, folder: Path) -> None:
    file = folder.with_name("m.gguf")
    file.write_text("GGUF")
    split = folder / "a-00001-of-00002.gguf"
    trust = ("--public_key", f"{key}.pub", "--signature")
    signed = inferctl("sign", file, "--key", key)
    assert signed.returncode == 0, signed.stderr
    assert "succeeded" in theirs(openssf, "verify", "key", file, *trust, f"{file}.sig")
    ours("sign", folder, "--key", key, "--ignore", "notes")
    assert "succeeded" in theirs(openssf, "verify", "key", folder, *trust, folder / "model.sig")
    ours("sign", split, "--key", key)
    parts = (*trust, f"{split}.sig", "--ignore_unsigned_files")
    assert "succeeded" in theirs(openssf, "verify", "key", folder, *parts)


def test_we_verify_what_openssf_signs(
    openssf: Path, key: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder.with_name("m.gguf")
    file.write_text("GGUF")
    sign = ("--private_key", key, "--signature")
    theirs(openssf, "sign", "key", file, *sign, f"{file}.sig")
    ours("verify", file, "--public-key", f"{key}.pub")
    left_out = ("--ignore-paths", folder / "notes")
    theirs(openssf, "sign", "key", folder, *sign, folder / "model.sig", *left_out)
    trust = ("--public-key", f"{key}.pub")
    (folder / "notes").write_text("changed")
    for model, count in ((folder, 3), (folder / "a-00001-of-00002.gguf", 2)):
        ours("verify", model, *trust)
        assert f"{count} files as signed" in capsys.readouterr().out
    (folder / "sub" / "b.json").write_text("changed")
    refused = inferctl("verify", folder, *trust)
    assert refused.returncode == 1
    assert "b.json is not what was signed" in refused.stderr


def test_a_certificate_stands_for_its_key(openssf: Path, key: Path, folder: Path) -> None:
    certificate = folder.with_name("signer.pem")
    certificate.write_bytes(_self_signed(key))
    theirs(
        *(openssf, "sign", "certificate", folder, "--signature", folder / "model.sig"),
        *("--private_key", key, "--signing_certificate", certificate),
        *("--certificate_chain", certificate),
    )
    for trusted in (certificate, f"{key}.pub"):
        ours("verify", folder, "--public-key", trusted)
    ours("keygen", "--out", folder.with_name("other"))
    other = folder.with_name("other.pub")
    assert main(["verify", str(folder), "--public-key", str(other)]) == 1


def _self_signed(path: Path) -> bytes:
    private = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "signer")])
    usage = dict.fromkeys(
        [
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        ],
        False,
    )
    long_ago = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    return (
        x509.CertificateBuilder(name, name, private.public_key(), 1)
        .not_valid_before(long_ago)
        .not_valid_after(long_ago + datetime.timedelta(10_000))
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
        .sign(private, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


# ------------------------------------------------------------------------- a server


def config(folder: Path, key: Path, mode: str, **models: dict[str, Any]) -> dict[str, Any]:
    """Models by name, on demand; the scripted backend does not care what is in their files."""
    for name in models:
        (folder / f"{name}.gguf").write_text(name)
    return {
        "auth": {"api_keys": KEYS},
        "runtime": {"backend": "scripted"},
        "model_signing": {"mode": mode, "public_keys": [f"{key}.pub"]},
        "library": {"path": str(folder / "library")},
        "models": [
            {"path": str(folder / f"{name}.gguf"), "load": "on_demand", **fields}
            for name, fields in models.items()
        ],
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path, key: Path) -> Iterator[RunningServer]:
    elsewhere = {"signature": str(home / "elsewhere.sig")}
    tree = config(home, key, "enforce", signed={}, unsigned={}, altered={}, moved=elsewhere)
    for name in ("signed", "altered"):
        ours("sign", home / f"{name}.gguf", "--key", key)
    ours("sign", home / "moved.gguf", "--key", key, "--signature", home / "elsewhere.sig")
    with running_server(home, tree) as running:
        yield running
        assert running.stop() == 0, running.log.read_text()


def chat(server: RunningServer, model: str) -> httpx2.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    with server.client() as client:
        return client.post("/v1/chat/completions", json=body)


def show(server: RunningServer, model: str, key: str = "all-key") -> dict[str, Any]:
    with server.client(key) as client:
        found: dict[str, Any] = client.get(f"/v1/models/{model}").json()
    return found


@pytest.mark.parametrize("name", ["signed", "moved"])
def test_a_signed_model_answers_and_says_who_signed_it(server: RunningServer, name: str) -> None:
    assert chat(server, name).status_code == 200
    report = show(server, name, "read-key")["signatures"]["model"]
    assert (report["verified"], report["file"]) == (True, f"{name}.gguf")
    assert len(report["key_id"]) == 64


def test_a_model_that_is_not_signed_is_not_loaded(server: RunningServer) -> None:
    refused = chat(server, "unsigned")
    assert refused.status_code == 503
    assert "gguf" not in refused.text
    assert "unsigned.gguf is not signed" in show(server, "unsigned")["error"]
    assert "error" not in show(server, "unsigned", "read-key")


def test_every_load_is_checked(server: RunningServer, home: Path) -> None:
    assert chat(server, "altered").status_code == 200
    (home / "altered.gguf").write_text("evil")
    with server.client() as client:
        for action in ("tune", "load"):
            client.post("/v1/models/unload", json={"model": "altered"}).raise_for_status()
            refused = client.post(f"/v1/models/{action}", json={"model": "altered"})
            assert refused.status_code == 503, refused.text
    assert "altered.gguf is not what was signed" in show(server, "altered")["error"]


def test_what_was_created_on_the_server_is_not_signed(server: RunningServer, home: Path) -> None:
    data = write_gguf(home / "tiny.gguf").read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    with server.client() as client:
        client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
        body = {"model": "created", "files": {"m.gguf": digest}, "stream": False}
        assert client.post("/api/create", json=body).json() == {"status": "success"}
    assert chat(server, "created").status_code == 503
    assert "is not signed" in show(server, "created")["error"]


def test_the_start_ends_where_a_model_is_not_signed(home: Path, key: Path, tmp_path: Path) -> None:
    tree = config(tmp_path, key, "enforce", unsigned={"load": "startup"})
    file = tmp_path / "server.yaml"
    file.write_text(yaml.safe_dump({**tree, "server": {"port": 0}}))
    done = subprocess.run(
        command(file),
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 1
    assert "unsigned.gguf is not signed" in done.stderr
    assert "inferctl models sign unsigned.gguf" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_warning_is_for_everybody_and_its_reason_for_administrators(
    key: Path, tmp_path: Path
) -> None:
    with running_server(tmp_path, config(tmp_path, key, "warn", unsigned={})) as server:
        assert chat(server, "unsigned").status_code == 200
        told = show(server, "unsigned", "read-key")["signatures"]
        assert told == {"model": {"file": "unsigned.gguf", "verified": False}}
        report = show(server, "unsigned")["signatures"]["model"]
        assert "unsigned.gguf is not signed" in report["problem"]
        assert "loaded all the same" in server.log.read_text()
        shown = subprocess.run(
            [
                sys.executable,
                "-P",
                "-m",
                "inferflux_cli",
                "models",
                "show",
                "unsigned",
                "--url",
                server.url,
            ],
            env={**environment(), "INFERCTL_API_KEY": "all-key"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "signatures.model.verified" in shown.stdout, shown.stderr
    shutil.rmtree(tmp_path / "library")
