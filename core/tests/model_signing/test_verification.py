"""Models that are as they were signed, and all kinds that are not."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferflux_core.errors import ModelLoadError
from inferflux_core.model_signing.bundle import write_bundle
from inferflux_core.model_signing.files import digest_file
from inferflux_core.model_signing.keys import SigningKey, TrustedKeys
from inferflux_core.model_signing.signing import sign_model
from inferflux_core.model_signing.statement import Manifest, read_statement, write_statement
from inferflux_core.model_signing.verification import VerifiedModel, verify_model

KEY = SigningKey.new("p256")
STRANGER = SigningKey.new("p256")
TRUSTED = TrustedKeys([KEY.public_pem.decode()])
PARTS = [f"m-0000{number}-of-00003.gguf" for number in (1, 2, 3)]


def silent(total: int) -> Callable[[int], None]:
    return lambda num_bytes: None


def sign(path: Path, *ignored: str, key: SigningKey = KEY) -> Path:
    return sign_model(path, key, None, ignored, silent)[0]


def verify(path: Path, signature: Path | None = None) -> VerifiedModel:
    return verify_model(path, signature, TRUSTED, silent)


def refuse(path: Path, match: str, signature: Path | None = None) -> None:
    with pytest.raises(ModelLoadError, match=match) as caught:
        verify(path, signature)
    assert caught.value.hint


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF and weights")
    return path


@pytest.fixture
def split(tmp_path: Path) -> Path:
    for name in PARTS:
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path / PARTS[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / ".git").mkdir()
    for name in ("config.json", "model.safetensors", "sub/tokenizer.json", ".git/HEAD"):
        (folder / name).write_text(name)
    return folder


# ------------------------------------------------------------------------- what is as signed


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_a_file_is_as_signed(file: Path, curve: type[ec.EllipticCurve]) -> None:
    key = SigningKey(ec.generate_private_key(curve()))
    assert sign(file, key=key) == file.with_name("m.gguf.sig")
    keys = TrustedKeys([STRANGER.public_pem.decode(), key.public_pem.decode()])
    found = verify_model(file, None, keys, silent)
    assert found.key_id == key.key_id
    assert found.is_unchanged()


def test_a_split_model_is_as_signed(split: Path) -> None:
    (split.parent / "unrelated.gguf").write_text("anything")
    sign(split)
    assert {path.name for path in verify(split).versions} == {*PARTS, f"{PARTS[0]}.sig"}


def test_a_folder_is_as_signed(folder: Path) -> None:
    (folder / "notes").mkdir()
    (folder / "notes" / "today").write_text("not signed")
    assert sign(folder, "notes") == folder / "model.sig"
    (folder / "notes" / "tomorrow").write_text("not signed either")
    assert set(verify(folder).manifest.digests) == {
        "config.json",
        "model.safetensors",
        "sub/tokenizer.json",
    }


def test_a_file_of_a_signed_folder(folder: Path, tmp_path: Path) -> None:
    """Repositories are signed as a whole; what is loaded of them may be one file."""
    signature = sign(folder)
    (folder / "downloaded-later").write_text("is not loaded")
    assert verify(folder / "config.json").key_id == KEY.key_id
    refuse(folder / "downloaded-later", "downloaded-later is not signed: model.sig does not list")
    inner = folder / "sub" / "tokenizer.json"
    refuse(inner, "is not signed: there is no tokenizer.json.sig or model.sig")
    assert verify(inner, signature).key_id == KEY.key_id
    # From elsewhere, it is about the folder that the model is in.
    moved = tmp_path / "moved.sig"
    signature.rename(moved)
    assert verify(folder / "config.json", moved).key_id == KEY.key_id


def test_how_far_it_is(split: Path) -> None:
    sign(split)
    told: list[int] = []

    def watch(total: int) -> Callable[[int], None]:
        told.append(-total)
        return told.append

    verify_model(split, None, TRUSTED, watch)
    assert -told[0] == sum(told[1:]) == 3 * len(PARTS[0])


def test_links_stand_for_what_they_lead_to(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "snapshot.gguf"
    link.symlink_to(file)
    sign(link)
    assert verify(link).is_unchanged()
    link.unlink()
    other = tmp_path / "other"
    other.write_bytes(b"something else")
    link.symlink_to(other)
    refuse(link, "is not what was signed")


# ------------------------------------------------------------------------- what is not


@pytest.mark.parametrize("number", range(3))
def test_every_part_counts(split: Path, number: int) -> None:
    sign(split)
    part = split.with_name(PARTS[number])
    content = part.read_bytes()
    part.write_bytes(content[:-1])
    refuse(split, f"{PARTS[number]} is not what was signed")
    part.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    refuse(split, f"{PARTS[number]} is not what was signed")


def test_a_signature_of_the_first_part_is_not_enough(split: Path) -> None:
    whole = Manifest({".": digest_file(split, lambda count: None)[0]})
    split.with_name(PARTS[0] + ".sig").write_bytes(write_bundle(write_statement("m", whole), KEY))
    refuse(split, f"{PARTS[1]} is not signed")


def test_a_part_that_is_missing(split: Path) -> None:
    sign(split)
    split.with_name(PARTS[2]).unlink()
    with pytest.raises(FileNotFoundError):
        verify(split)


@pytest.mark.parametrize("name", ["config.json", "sub/tokenizer.json"])
def test_a_folder_that_changed(folder: Path, name: str) -> None:
    sign(folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content + b" ")
    refuse(folder, f"{Path(name).name} is not what was signed")
    (folder / name).unlink()
    refuse(folder, f"{name} is missing")
    (folder / name).write_bytes(content)
    (folder / "sub" / "modeling.py").write_text("import os")
    refuse(folder, "sub/modeling.py is not signed")


def test_two_files_that_were_exchanged(folder: Path) -> None:
    sign(folder)
    first, second = folder / "config.json", folder / "model.safetensors"
    first.rename(folder / "x")
    second.rename(first)
    (folder / "x").rename(second)
    refuse(folder, "is not what was signed")


def test_no_signature(file: Path, folder: Path) -> None:
    refuse(file, r"m\.gguf is not signed: there is no m\.gguf\.sig or model\.sig")
    refuse(folder, r"model is not signed: there is no model\.sig")


def test_a_file_and_a_folder_are_not_the_same(file: Path, folder: Path) -> None:
    refuse(folder, "signature of a file", sign(file))
    (folder / "m.gguf").write_bytes(file.read_bytes())
    refuse(folder / "m.gguf", "does not list it", sign(folder, "m.gguf"))


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def _link(path: Path) -> None:
    path.symlink_to("config.json")


def _folder_link(path: Path) -> None:
    path.symlink_to(path.parent / "sub")


def _broken_link(path: Path) -> None:
    path.symlink_to("nothing")


@pytest.mark.parametrize("make", [_fifo, _socket, _link, _folder_link, _broken_link])
def test_what_is_neither_file_nor_folder(folder: Path, make: Callable[[Path], None]) -> None:
    signature = sign(folder)
    make(folder / "strange")
    refuse(folder, "holds (a link, )?'strange'")
    signature.unlink()
    with pytest.raises(ModelLoadError, match=r"holds (a link, )?'strange'"):
        sign(folder)


def test_a_pipe_in_the_place_of_a_model(folder: Path) -> None:
    sign(folder)
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    refuse(folder / "config.json", "is not a regular file")


def sign_over(folder: Path, digests: dict[str, str], **fields: Any) -> Path:
    path = folder.parent / "over.sig"
    path.write_bytes(write_bundle(write_statement("x", Manifest(digests, **fields)), KEY))
    return path


def test_links_that_the_signer_allowed(folder: Path) -> None:
    sign(folder)
    digests = verify(folder).manifest.digests
    (folder / "model.sig").unlink()
    (folder / "link.json").symlink_to("config.json")
    digests["link.json"] = digests["config.json"]
    signature = sign_over(folder, digests, ignored=(".git",), allow_symlinks=True)
    assert verify(folder, signature).is_unchanged()
    (folder / "outside").symlink_to(folder.parent)
    refuse(folder, "'outside', which is no regular file", signature)


# ------------------------------------------------------------------------- forged signatures


def bundle_of(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sign(file).read_bytes())
    return found


def _strangers(bundle: dict[str, Any]) -> None:
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    bundle |= json.loads(write_bundle(payload, STRANGER))


def _strangers_with_our_hint(bundle: dict[str, Any]) -> None:
    _strangers(bundle)
    bundle["verificationMaterial"]["publicKey"]["hint"] = KEY.key_id


def _set(*path: str | int, value: object) -> Callable[[dict[str, Any]], None]:
    def change(bundle: dict[str, Any]) -> None:
        at: Any = bundle
        for part in path[:-1]:
            at = at[part]
        at[path[-1]] = value

    return change


def _two(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["signatures"] *= 2


ENVELOPE, MATERIAL = "dsseEnvelope", "verificationMaterial"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_strangers, f"signed by the key '{STRANGER.key_id[:16]}'; trusted are: {KEY.key_id[:16]}"),
        (_strangers_with_our_hint, "was altered"),
        (_set(ENVELOPE, "payload", value="e30="), "was altered"),
        (_set(ENVELOPE, "signatures", 0, "sig", value=""), "was altered"),
        (_set(ENVELOPE, "signatures", 0, "sig", value="!"), "no model signature"),
        (_set(ENVELOPE, "signatures", value=[]), "has 0 signatures"),
        (_two, "has 2 signatures"),
        (_set(ENVELOPE, "payloadType", value="text/plain"), "not a model signature"),
        (_set("mediaType", value="application/vnd.dev.sigstore.bundle+json"), "not a model sig"),
        (_set(ENVELOPE, value=None), "no model signature"),
        (_set(MATERIAL, value={"certificate": {"rawBytes": "AA=="}}), "signed without a key"),
        (_set(MATERIAL, value=7), "no model signature"),
    ],
)
def test_forged_bundles(file: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    bundle = bundle_of(file)
    change(bundle)
    file.with_name("m.gguf.sig").write_text(json.dumps(bundle))
    refuse(file, message)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"\x80\x04.", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe"],
)
def test_what_is_no_bundle(file: Path, content: bytes) -> None:
    file.with_name("m.gguf.sig").write_bytes(content)
    refuse(file, "m.gguf.sig is no model signature")


def test_a_signature_that_is_too_large_or_no_file(file: Path) -> None:
    signature = file.with_name("m.gguf.sig")
    with signature.open("wb") as huge:
        huge.truncate(1 << 40)
    refuse(file, "more than 33554432 bytes")
    signature.unlink()
    os.mkfifo(signature)
    refuse(file, "not a regular file")


def test_a_signature_by_a_certificate_whose_key_is_trusted(file: Path) -> None:
    bundle = bundle_of(file)
    chain = {"certificates": [{"rawBytes": base64.b64encode(b"any").decode()}]}
    bundle[MATERIAL] = {"x509CertificateChain": chain, "tlogEntries": []}
    file.with_name("m.gguf.sig").write_text(json.dumps(bundle))
    assert verify(file).key_id == KEY.key_id
    _strangers(bundle)
    bundle[MATERIAL] = {"x509CertificateChain": chain}
    file.with_name("m.gguf.sig").write_text(json.dumps(bundle))
    refuse(file, "by a key that it does not name")


# ------------------------------------------------- statements that a trusted key has signed


def statement_of(names: list[str]) -> dict[str, Any]:
    digest = hashlib.sha256(b"GGUF and weights").hexdigest()
    statement: dict[str, Any] = json.loads(write_statement("m", Manifest({"a": digest})))
    statement["predicate"]["resources"] = [
        {"name": name, "algorithm": "sha256", "digest": digest} for name in names
    ]
    root = hashlib.sha256(bytes.fromhex(digest) * len(names)).hexdigest()
    statement["subject"][0]["digest"]["sha256"] = root
    return statement


@pytest.mark.parametrize(
    "names",
    [
        *(["../m.gguf"], ["/m.gguf"], ["a/../m.gguf"], ["./m.gguf"], ["a//m.gguf"], ["m.gguf/"]),
        *([""], [".."], ["m.gguf\0"], [".", "m.gguf"], ["m.gguf", "m.gguf"], []),
    ],
)
def test_names_never_lead_elsewhere(file: Path, names: list[str]) -> None:
    payload = json.dumps(statement_of(names)).encode()
    file.with_name("m.gguf.sig").write_bytes(write_bundle(payload, KEY))
    refuse(file, "m.gguf.sig lists")


PREDICATE = "predicate"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("_type", value="https://in-toto.io/Statement/v0.1"), "not the digests of a model"),
        (_set("predicateType", value="https://model_signing/Digests/v0.1"), "not the digests"),
        (_set("predicateType", value="https://slsa.dev/provenance/v1"), "not the digests"),
        (_set("subject", value=[]), "contradicts itself"),
        (_set("subject", 0, "digest", value={"sha256": "0" * 64}), "contradicts itself"),
        (_set("subject", 0, "digest", value={"sha1": "0" * 40}), "contradicts itself"),
        (_set(PREDICATE, value={}), "holds no statement"),
        (_set(PREDICATE, value=[]), "holds no statement"),
        (_set(PREDICATE, "serialization", "method", value="shards"), "only SHA-256 of whole"),
        (_set(PREDICATE, "serialization", "hash_type", value="blake3"), "only SHA-256 of whole"),
        (_set(PREDICATE, "serialization", "hash_type", value="md5"), "only SHA-256 of whole"),
        (_set(PREDICATE, "serialization", "ignore_paths", value=["."]), "leaves everything out"),
        (_set(PREDICATE, "serialization", "ignore_paths", value=[""]), "leaves everything out"),
        (_set(PREDICATE, "serialization", "allow_symlinks", value="no"), "holds no statement"),
        (_set(PREDICATE, "resources", 0, "algorithm", value="md5"), "no SHA-256"),
        (_set(PREDICATE, "resources", 0, "digest", value="00"), "no SHA-256"),
        (_set(PREDICATE, "resources", 0, "digest", value=" " * 64), "no SHA-256"),
        (_set(PREDICATE, "resources", 0, "digest", value=None), "holds no statement"),
    ],
)
def test_other_statements(
    file: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    statement = statement_of(["m.gguf"])
    signature = file.with_name("m.gguf.sig")
    signature.write_bytes(write_bundle(json.dumps(statement).encode(), KEY))
    verify(file)
    change(statement)
    signature.write_bytes(write_bundle(json.dumps(statement).encode(), KEY))
    refuse(file, f"m.gguf.sig .*{message}")


def test_two_subjects(file: Path) -> None:
    statement = statement_of(["m.gguf"])
    statement["subject"] *= 2
    payload = json.dumps(statement).encode()
    file.with_name("m.gguf.sig").write_bytes(write_bundle(payload, KEY))
    refuse(file, "contradicts itself")


# ------------------------------------------------------------------------- by chance


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signed") / "model"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_text(name * 9)
    sign(folder)
    return folder


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), cut=st.booleans())
def test_a_signature_with_one_wrong_byte_says_the_same_or_nothing(
    signed: Path, place: float, flip: int, cut: bool
) -> None:
    path = signed / "model.sig"
    before = path.read_bytes()
    at = int(place * len(before))
    changed = before[:at] if cut else before[:at] + bytes([before[at] ^ flip]) + before[at + 1 :]
    expected = verify(signed).manifest
    path.write_bytes(changed)
    try:
        found = verify(signed).manifest
    except ModelLoadError:
        found = expected
    finally:
        path.write_bytes(before)
    assert found == expected


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1)
        .filter(lambda name: name not in (".", ".."))
        .map(lambda name: f"sub/{name}"),
        st.binary(min_size=32, max_size=32).map(bytes.hex),
        min_size=1,
    )
)
def test_every_list_of_files_comes_back(digests: dict[str, str]) -> None:
    manifest = Manifest(digests, ("README.md",), allow_symlinks=True)
    assert read_statement(write_statement("m", manifest), "x") == manifest


# ------------------------------------------------------------------------- what changes later


def test_what_changed_after_it_was_verified(split: Path) -> None:
    signature = sign(split)
    for change in (
        lambda: split.write_bytes(split.read_bytes()),
        lambda: split.replace(split.with_name("x")) and split.with_name("x").replace(split),
        lambda: split.with_name(PARTS[1]).unlink(),
    ):
        found = verify(split)
        assert found.is_unchanged()
        change()
        assert not found.is_unchanged()
    split.with_name(PARTS[1]).write_text(PARTS[1])
    found = verify(split)
    os.utime(signature)
    assert not found.is_unchanged()


def test_times_that_were_set_back_do_not_hide_a_change(file: Path) -> None:
    sign(file)
    found, stat = verify(file), file.stat()
    file.write_bytes(b"evil and weights")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.stat().st_mtime_ns == stat.st_mtime_ns
    assert not found.is_unchanged()


def test_a_file_that_comes_later(folder: Path) -> None:
    sign(folder)
    found = verify(folder)
    (folder / ".git" / "new").touch()
    assert found.is_unchanged()
    (folder / "new").touch()
    assert not found.is_unchanged()


def test_a_file_that_changes_while_it_is_read(file: Path) -> None:
    def progress(num_bytes: int) -> None:
        with file.open("ab") as growing:
            growing.write(b"!" if file.stat().st_size < 20 else b"")

    with pytest.raises(ModelLoadError, match="changed while it was read"):
        digest_file(file, progress)
