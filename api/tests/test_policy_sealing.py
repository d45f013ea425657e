"""Documents under a passphrase: what is damaged, altered or swapped is told apart, and refused."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferflux_api.governance.policy import sealing
from inferflux_api.governance.policy.sealing import Sealer, WrongPassphraseError
from inferflux_core.errors import ConfigError

SECRET = "correct horse battery staple"


@pytest.fixture(scope="module")
def sealed_bytes() -> bytes:
    return Sealer(SECRET).seal(b'{"a":"document"}' * 9, store="one", generation=6)


def test_two_seals_of_one_document_share_nothing_secret() -> None:
    sealer = Sealer(SECRET)
    one, two = (sealer.seal(b"{}" * 99, store="s", generation=1) for _ in range(2))
    assert sealer.unseal(one) == Sealer(SECRET).unseal(two)
    header_end = one.index(b'"gen":1}') + 8
    assert one[header_end + 2 : header_end + 62] != two[header_end + 2 : header_end + 62]
    assert one[-200:] != two[-200:]


def test_every_damaged_byte_is_noticed(sealed_bytes: bytes) -> None:
    sealer = Sealer(SECRET)
    for place in range(len(sealed_bytes)):
        for flip in (0x01, 0x80):
            damaged = bytearray(sealed_bytes)
            damaged[place] ^= flip
            # A checksum comes before the passphrase: none of these costs a key derivation.
            with pytest.raises(ConfigError, match=r"damaged|version"):
                sealer.unseal(bytes(damaged))


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
        Sealer(SECRET).unseal(checksummed(bytes(altered)))


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"gen":6', b'"gen":7'), (b'"alg":"AES-256-GCM"', b'"alg":"AES-256-CBC"')],
)
def test_the_header_cannot_be_rewritten(sealed_bytes: bytes, old: bytes, new: bytes) -> None:
    assert sealed_bytes.count(old) == 1
    with pytest.raises(ConfigError, match="altered"):
        Sealer(SECRET).unseal(checksummed(sealed_bytes[:-32].replace(old, new)))


def test_the_body_of_another_store_does_not_fit(sealed_bytes: bytes) -> None:
    other = Sealer(SECRET).seal(b"{}", store="other", generation=6)
    cut = sealed_bytes.index(b'"gen":6}') + 8
    other_cut = other.index(b'"gen":6}') + 8
    with pytest.raises(ConfigError, match="altered"):
        Sealer(SECRET).unseal(checksummed(sealed_bytes[:cut] + other[other_cut:-32]))


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
        Sealer(SECRET).unseal(checksummed(content + sealed_bytes[9 + size : -32]))


def test_another_passphrase_is_told_from_damage(sealed_bytes: bytes) -> None:
    with pytest.raises(WrongPassphraseError, match="another passphrase"):
        Sealer(SECRET + "!").unseal(sealed_bytes)


def test_a_store_that_changes_costs_one_derivation(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Sealer(SECRET).seal(b"1", store="s", generation=1)
    real, derived = sealing.Argon2id, []

    def counting(**parameters: Any) -> Any:
        derived.append(parameters)
        return real(**parameters)

    monkeypatch.setattr(sealing, "Argon2id", counting)
    sealer = Sealer(SECRET)
    assert sealer.unseal(first) == b"1"
    for generation in range(2, 6):
        assert sealer.unseal(sealer.seal(b"n", store="s", generation=generation)) == b"n"
    assert len(derived) == 1
