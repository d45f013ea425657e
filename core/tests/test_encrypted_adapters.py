from __future__ import annotations

import io
import itertools
import json
import os
import random
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferflux_core.encrypted_adapters import (
    MAGIC,
    Keyset,
    adapter_name,
    decrypted_in_memory,
    encrypt_file,
    new_keyset,
    reencrypt_file,
)
from inferflux_core.encrypted_adapters.__main__ import main
from inferflux_core.errors import ConfigError, ModelLoadError

SEGMENT = 1 << 20
NAME = "support"
HEADER = len(MAGIC) + 5 + len(NAME)
CONTENT = b"GGUF" + random.Random(1).randbytes(5 * SEGMENT // 2)


def write_keys(path: Path, previous: Path | None = None) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(new_keyset(previous)[0])
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encrypted")


@pytest.fixture(scope="module")
def keyset(folder: Path) -> Keyset:
    return Keyset(write_keys(folder / "keys.json"))


@pytest.fixture(scope="module")
def encrypted(folder: Path, keyset: Keyset) -> bytes:
    return encrypt(folder, CONTENT, keyset)


_numbers = itertools.count()


def encrypt(folder: Path, content: bytes, keyset: Keyset, name: str = NAME) -> bytes:
    source, target = folder / f"{next(_numbers)}.gguf", folder / f"{next(_numbers)}.enc"
    source.write_bytes(content)
    encrypt_file(source, target, name, keyset, lambda _: None)
    return target.read_bytes()


def decrypt(data: bytes, keyset: Keyset, name: str = NAME) -> bytes:
    with decrypted_in_memory(io.BytesIO(data), "support.gguf.enc", name, keyset) as path:
        return path.read_bytes()


# ------------------------------------------------------------------------------- the stream


@pytest.mark.parametrize(
    "size", [4, 5, SEGMENT - 57, SEGMENT - 56, SEGMENT - 55, SEGMENT, 3 * SEGMENT]
)
def test_what_was_encrypted_comes_back(folder: Path, keyset: Keyset, size: int) -> None:
    content = (CONTENT + CONTENT)[:size]
    data = encrypt(folder, content, keyset)
    assert decrypt(data, keyset) == content
    assert CONTENT[4:16] not in data
    assert data != encrypt(folder, content, keyset)


def segments(data: bytes) -> list[bytes]:
    body = data[HEADER:]
    return [body[at : at + SEGMENT] for at in range(0, len(body), SEGMENT)]


ALTERATIONS: dict[str, Callable[[bytes], bytes]] = {
    "cut at a segment": lambda data: data[: HEADER + 2 * SEGMENT],
    "one segment only": lambda data: data[: HEADER + SEGMENT],
    "a byte short": lambda data: data[:-1],
    "a byte more": lambda data: data + b"x",
    "the end twice": lambda data: data + segments(data)[-1],
    "segments swapped": lambda data: (
        data[:HEADER] + segments(data)[1] + segments(data)[0] + segments(data)[2]
    ),
    "a segment left out": lambda data: data[:HEADER] + segments(data)[0] + segments(data)[2],
    "a segment repeated": lambda data: data[: HEADER + 2 * SEGMENT] + data[HEADER + SEGMENT :],
    "nothing after the header": lambda data: data[:HEADER],
}


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_segments_are_all_there_in_their_order(
    encrypted: bytes, keyset: Keyset, alteration: str
) -> None:
    with pytest.raises(ModelLoadError, match="fails its check"):
        decrypt(ALTERATIONS[alteration](encrypted), keyset)


def test_segments_of_another_file_do_not_fit(
    folder: Path, encrypted: bytes, keyset: Keyset
) -> None:
    """Each file has a key of its own, made from the key in the keyset."""
    other = encrypt(folder, CONTENT, keyset)
    one, two = segments(encrypted), segments(other)
    for mixed in ([one[0], two[1], one[2]], [one[0], one[1], two[2]]):
        with pytest.raises(ModelLoadError, match="fails its check"):
            decrypt(encrypted[:HEADER] + b"".join(mixed), keyset)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_bit_can_be_changed_and_no_byte_left_out(
    encrypted: bytes, keyset: Keyset, data: st.DataObject
) -> None:
    near_the_start = st.integers(0, HEADER + 60)
    position = data.draw(near_the_start | st.integers(0, len(encrypted) - 1))
    altered = bytearray(encrypted)
    if data.draw(st.booleans()):
        altered[position] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del altered[position:]
    with pytest.raises(ModelLoadError):
        decrypt(bytes(altered), keyset)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200))
def test_no_bytes_make_it_fail_in_another_way(keyset: Keyset, data: bytes) -> None:
    for start in (b"", MAGIC, MAGIC + keyset.primary.to_bytes(4) + b"\x07support"):
        with pytest.raises(ModelLoadError):
            decrypt(start + data, keyset)


# ------------------------------------------------------------------------------- what it is bound to


def test_an_adapter_cannot_be_put_in_anothers_place(encrypted: bytes, keyset: Keyset) -> None:
    with pytest.raises(
        ModelLoadError, match=r"encrypted as 'support', and by its file .* 'pirate!'"
    ):
        decrypt(encrypted, keyset, "pirate!")
    renamed = encrypted.replace(b"support", b"pirate!", 1)
    with pytest.raises(ModelLoadError, match="fails its check"):
        decrypt(renamed, keyset, "pirate!")


def test_what_was_encrypted_for_something_else_is_no_adapter(keyset: Keyset) -> None:
    header = MAGIC + keyset.primary.to_bytes(4) + b"\x07support"
    target = io.BytesIO()
    target.close = lambda: None  # type: ignore[method-assign]
    with keyset.cipher(keyset.primary).new_encrypting_stream(target, header) as stream:
        stream.write(CONTENT[:100])
    with pytest.raises(ModelLoadError, match="fails its check"):
        decrypt(header + target.getvalue(), keyset)


@pytest.mark.parametrize("name", ["", "x" * 256, "\udc80"])
def test_names_that_cannot_be_kept(folder: Path, keyset: Keyset, name: str) -> None:
    with pytest.raises(ModelLoadError, match="cannot be the name"):
        encrypt(folder, CONTENT[:9], keyset, name)


def test_names_of_files() -> None:
    names = [adapter_name(Path(f"a/v1.2{end}")) for end in (".gguf", ".gguf.enc")]
    assert names == ["v1.2", "v1.2"]


# ------------------------------------------------------------------------------- memory only


def test_plain_text_is_in_a_sealed_file_in_memory(encrypted: bytes, keyset: Keyset) -> None:
    opened: list[object] = []
    watching = True

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open":
            opened.append(arguments[0])

    sys.addaudithook(watch)
    file = io.BytesIO(encrypted)
    with decrypted_in_memory(file, "support.gguf.enc", NAME, keyset) as path:
        watching = False
        assert path.readlink().name == "memfd:inferflux-adapter (deleted)"
        assert path.read_bytes() == CONTENT
        descriptor = os.open(path, os.O_RDWR)
        try:
            with pytest.raises(PermissionError):
                os.write(descriptor, b"x")
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)
    assert opened
    assert all(isinstance(what, int) for what in opened), opened
    assert not path.exists()


def test_without_files_in_memory_it_is_refused(
    encrypted: bytes, keyset: Keyset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ModelLoadError, match="operating system does not have") as refused:
        decrypt(encrypted, keyset)
    assert refused.value.hint == "serve encrypted adapters on Linux"


# ------------------------------------------------------------------------------- keys


def test_keys_rotate(tmp_path: Path, encrypted: bytes, keyset: Keyset) -> None:
    second = Keyset(write_keys(tmp_path / "second.json", keyset.path))
    assert second.ids[1:] == [keyset.primary]
    assert decrypt(encrypted, second) == CONTENT

    old, new = tmp_path / "old.enc", tmp_path / "new.enc"
    old.write_bytes(encrypted)
    assert reencrypt_file(old, new, second, lambda _: None).key_id == second.primary
    assert decrypt(new.read_bytes(), second) == CONTENT
    with pytest.raises(ModelLoadError, match=f"with the key {second.primary}, and keys.json has"):
        decrypt(new.read_bytes(), keyset)

    third = Keyset(write_keys(tmp_path / "third.json", second.path))
    assert third.ids[1:] == [second.primary]
    with pytest.raises(ModelLoadError, match=f"with the key {keyset.primary}, and third.json has"):
        decrypt(encrypted, third)


def test_another_key_of_the_same_number_does_not_fit(
    tmp_path: Path, encrypted: bytes, keyset: Keyset
) -> None:
    path = write_keys(tmp_path / "other.json")
    other = Keyset(path).primary
    path.write_text(path.read_text().replace(str(other), str(keyset.primary)))
    with pytest.raises(ModelLoadError, match="fails its check"):
        decrypt(encrypted, Keyset(path))


def test_a_key_that_is_disabled_is_not_used(
    tmp_path: Path, encrypted: bytes, keyset: Keyset
) -> None:
    path = write_keys(tmp_path / "keys.json", keyset.path)
    document = json.loads(path.read_text())
    document["key"][1]["status"] = "DISABLED"
    path.write_text(json.dumps(document))
    with pytest.raises(ModelLoadError, match="with the key"):
        decrypt(encrypted, Keyset(path))


def damaged(change: Callable[[dict[str, object]], object]) -> Callable[[str], str]:
    def apply(text: str) -> str:
        document = json.loads(text)
        change(document)
        return json.dumps(document)

    return apply


@pytest.mark.parametrize(
    "change",
    [
        lambda _text: "",
        lambda _text: "[]",
        lambda _text: " " * 70_000,
        lambda text: text[:-20],
        lambda text: text.replace("AesGcmHkdfStreamingKey", "AesGcmKey"),
        lambda text: text.replace('"value": "', '"value": "AAAA'),
        damaged(lambda document: document.update(primaryKeyId=1)),
        damaged(lambda document: document.update(key=[])),
        damaged(lambda document: document.update(key=document["key"] * 2)),  # type: ignore[operator]
    ],
    ids=["empty", "list", "long", "cut", "kind", "value", "primary", "none", "twice"],
)
def test_key_files_that_hold_no_keys(tmp_path: Path, change: Callable[[str], str]) -> None:
    path = write_keys(tmp_path / "keys.json")
    secret = json.loads(path.read_text())["key"][0]["keyData"]["value"]
    path.write_text(change(path.read_text()))
    with pytest.raises(ConfigError, match="holds no keyset") as refused:
        Keyset(path)
    assert secret not in f"{refused.value!r} {refused.value} {refused.value.__cause__}"


def test_key_files_that_are_not_safe_or_not_there(tmp_path: Path) -> None:
    path = write_keys(tmp_path / "keys.json")
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="read by other accounts"):
        Keyset(path)
    with pytest.raises(ConfigError, match="No such file"):
        Keyset(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigError, match="holds no keyset"):
        Keyset(tmp_path / "pipe")


def test_a_keyset_prints_no_key(keyset: Keyset) -> None:
    secret = json.loads(keyset.path.read_text())["key"][0]["keyData"]["value"]
    assert secret not in repr(keyset)
    assert str(keyset.primary) in repr(keyset)


def test_without_tink_the_command_to_install_it_is_named(
    keyset: Keyset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tink", None)
    with pytest.raises(ConfigError, match=r"pip install 'inferflux-core\[encryption\]'"):
        Keyset(keyset.path)


# ------------------------------------------------------------------------------- commands


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "support.gguf").write_bytes(CONTENT)
    return tmp_path


def run(line: str) -> int:
    return main(line.split())


def test_commands(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("keygen --out k1") == 0
    assert run("encrypt support.gguf --key-file k1") == 0
    assert run("encrypt support.gguf --key-file k1 --out b.gguf.enc --json") == 0
    assert run("keygen --out k2 --previous k1") == 0
    assert run("reencrypt support.gguf.enc --key-file k2 --out new") == 0

    first, second = Keyset(here / "k1"), Keyset(here / "k2")
    out = capsys.readouterr().out
    assert f"support.gguf.enc holds 'support', key {first.primary}\n" in out
    assert f"new holds 'support', key {second.primary}\n" in out
    assert f'"name": "b",\n  "key_id": {first.primary}\n' in out
    assert decrypt((here / "new").read_bytes(), second) == CONTENT
    assert decrypt((here / "b.gguf.enc").read_bytes(), first, "b") == CONTENT
    files = {"k1", "k2", "support.gguf", "support.gguf.enc", "b.gguf.enc", "new"}
    assert {path.name for path in here.iterdir()} == files
    assert all((here / name).stat().st_mode & 0o077 == 0 for name in files - {"support.gguf"})


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("keygen --out keys", "keys: exists already"),
        ("keygen --out new --previous none", "none cannot be read"),
        ("keygen --out none/new", "No such file"),
        ("encrypt support.gguf --key-file keys --out keys", "keys: exists already"),
        ("encrypt none --key-file keys", "none: No such file"),
        ("encrypt keys --key-file keys", "keys is not a GGUF file"),
        ("encrypt support.gguf --key-file none", "none cannot be read"),
        ("reencrypt support.gguf --key-file keys --out new", "not an encrypted adapter"),
    ],
)
def test_commands_that_cannot_be_done(
    here: Path, capsys: pytest.CaptureFixture[str], line: str, error: str
) -> None:
    content = write_keys(here / "keys").read_bytes()
    assert run(line) == 2
    assert error in capsys.readouterr().err
    assert run(f"{line} --json") == 2
    assert error in json.loads(capsys.readouterr().out)["error"]
    assert (here / "keys").read_bytes() == content
    assert {path.name for path in here.iterdir()} == {"keys", "support.gguf"}


def test_a_full_disk_leaves_nothing_behind(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_keys(here / "keys")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SEGMENT, before[1]))
    try:
        assert run("encrypt support.gguf --key-file keys") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "cannot be written" in capsys.readouterr().err
    assert {path.name for path in here.iterdir()} == {"keys", "support.gguf"}
