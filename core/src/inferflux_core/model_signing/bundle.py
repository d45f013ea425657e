"""Sigstore bundles, version 0.3, around DSSE envelopes: what a signature file holds.

Formats: https://docs.sigstore.dev/about/bundle/ and https://github.com/secure-systems-lab/dsse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from inferflux_core.errors import ModelLoadError

if TYPE_CHECKING:
    from inferflux_core.model_signing.keys import SigningKey, TrustedKeys

__all__ = ["open_bundle", "write_bundle"]

_MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_SHOWN_OF_A_KEY: Final = 16
_AGAIN: Final = "sign the model again: inferctl models sign, or OpenSSF's `model_signing sign key`"


class _Signature(msgspec.Struct):
    sig: bytes
    keyid: str = ""


class _Envelope(msgspec.Struct, rename="camel"):
    payload: bytes
    payload_type: str
    signatures: list[_Signature]


class _PublicKey(msgspec.Struct):
    hint: str | None = None


class _Material(msgspec.Struct, rename="camel", omit_defaults=True):
    public_key: _PublicKey | None = None
    tlog_entries: list[Any] | None = None
    certificate: Any = None


class _Bundle(msgspec.Struct, rename="camel"):
    media_type: str
    verification_material: _Material
    dsse_envelope: _Envelope


def open_bundle(data: bytes, label: str, keys: TrustedKeys) -> tuple[bytes, str]:
    """Check a bundle's signature.

    Args:
        data: a signature file's content.
        label: its name, for messages.
        keys: whose signatures count.

    Returns:
        The in-toto statement that was signed, and the id of the key that signed it.

    Raises:
        ModelLoadError: it is no bundle of this kind, or none of the keys has signed it.
    """
    try:
        bundle = msgspec.json.decode(data, type=_Bundle)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ModelLoadError(f"{label} is no model signature: {error}", hint=_AGAIN) from None
    material, envelope = bundle.verification_material, bundle.dsse_envelope
    if bundle.media_type != _MEDIA_TYPE or envelope.payload_type != _PAYLOAD_TYPE:
        kinds = f"{bundle.media_type[:100]!r} with {envelope.payload_type[:100]!r}"
        raise ModelLoadError(f"{label} is {kinds}, not a model signature", hint=_AGAIN)
    if material.certificate is not None:
        raise ModelLoadError(
            f"{label} was signed without a key, by Sigstore, whose servers one would have to ask",
            hint="sign the model with a key: inferctl models sign",
        )
    if len(envelope.signatures) != 1:
        raise ModelLoadError(
            f"{label} has {len(envelope.signatures)} signatures, and there has to be one",
            hint=_AGAIN,
        )
    key_id = keys.signer(_signed_bytes(envelope.payload), envelope.signatures[0].sig)
    if key_id is None:
        raise _not_trusted(label, material, keys)
    return envelope.payload, key_id


def write_bundle(statement: bytes, key: SigningKey) -> bytes:
    """Sign a statement: the content of a signature file."""
    signature = _Signature(key.sign(_signed_bytes(statement)))
    bundle = _Bundle(
        media_type=_MEDIA_TYPE,
        verification_material=_Material(public_key=_PublicKey(key.key_id), tlog_entries=[]),
        dsse_envelope=_Envelope(statement, _PAYLOAD_TYPE, [signature]),
    )
    return msgspec.json.encode(bundle) + b"\n"


def _signed_bytes(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the type is signed with the payload."""
    return b"DSSEv1 %d %s %d %s" % (
        len(_PAYLOAD_TYPE),
        _PAYLOAD_TYPE.encode(),
        len(payload),
        payload,
    )


def _not_trusted(label: str, material: _Material, keys: TrustedKeys) -> ModelLoadError:
    # The hint is not signed: good for a message, and for nothing else.
    named = (material.public_key.hint if material.public_key else None) or ""
    if named in keys.ids:
        return ModelLoadError(f"{label} was altered: its signature does not fit", hint=_AGAIN)
    by = f"by the key {named[:_SHOWN_OF_A_KEY]!r}" if named else "by a key that it does not name"
    known = ", ".join(key_id[:_SHOWN_OF_A_KEY] for key_id in keys.ids)
    return ModelLoadError(
        f"{label} was signed {by}; trusted are: {known}",
        hint="add the signer's public key if you trust it",
    )
