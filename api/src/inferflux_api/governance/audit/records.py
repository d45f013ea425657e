"""One line of the log, and what makes it a link of the chain.

A line is a JSON object whose last field is `hash`: the SHA-256 of the same bytes without that field. The
field before it is `prev`, the hash of the line before; so no byte of any line can change unnoticed. In a
checkpoint, a `signature` stands between the two: Ed25519 over the bytes without `signature` and `hash`.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec

from inferflux_api.governance.audit.problems import DamagedError

__all__ = ["CHECKPOINT", "GENESIS", "Entry", "Record", "open_line", "seal", "signed_part"]

GENESIS: Final = "0" * 64
"""What the first record of all has in place of the hash before it."""

CHECKPOINT: Final = "checkpoint"

_DOMAIN: Final = b"inferflux audit checkpoint v1\n"
_HASH: Final = b',"hash":"'
_HASH_BYTES: Final = len(_HASH) + 64 + 2
_SIGNATURE: Final = b',"signature":"'
_SIGNATURE_BYTES: Final = len(_SIGNATURE) + 128 + 2


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line without its hash. There is no field for answers or credentials.

    Attributes:
        seq: 1 for the first record of all, then one more for each.
        time: seconds since 1970.
        event: `received`, `completed`, `prompt`, `refused`, `action`, `acted`, or what the log says of
            itself: `started`, `stopped`, `checkpoint`, `recovered`, `gap`, `expired`, `suppressed`,
            `dropped`.
        reason: code of the error that refused a caller.
        action: what was asked for, such as `POST /v1/models/load`.
        target: the model, adapter or file that it was asked for.
        client: address of the caller.
        policy_generation: of the policy that was in force; 0 without a policy store.
        prompts: only if they are asked for.
        count: records that were not written, or bytes that were recovered.
        last: number of the last record that is lost, or was deleted.
        digest: hash of what was recovered or deleted.
        detail: name of a file, a sink or a key.
        prev: hash of the record before.
    """

    seq: int
    time: float
    event: str
    request_id: str = ""
    subject: str = ""
    tenant: str = ""
    provider: str = ""
    model: str = ""
    outcome: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reason: str = ""
    action: str = ""
    target: str = ""
    client: str = ""
    policy_generation: int = 0
    prompts: Any = None
    count: int = 0
    last: int = 0
    digest: str = ""
    detail: str = ""
    prev: str


class Entry(NamedTuple):
    """A record as it was written.

    Attributes:
        line: its bytes, without the line end.
        hash: its own.
    """

    record: Record
    line: bytes
    hash: str


_decoder = msgspec.json.Decoder(Record)
_encode = msgspec.json.Encoder().encode


def seal(record: Record, sign: Callable[[bytes], str] | None = None) -> Entry:
    """The line of a record; with `sign`, of a checkpoint."""
    body = _encode(record)
    if sign is not None:
        body = b'%b,"signature":"%b"}' % (body[:-1], sign(_DOMAIN + body).encode())
    digest = sha256(body).hexdigest()
    return Entry(record, b'%b,"hash":"%b"}' % (body[:-1], digest.encode()), digest)


def open_line(line: bytes) -> Entry:
    """The record of a line, which has no line end.

    Raises:
        DamagedError: it is not what was written.
    """
    if line[-_HASH_BYTES:-66] != _HASH or line[-2:] != b'"}':
        raise DamagedError("is not a whole record")
    body = line[:-_HASH_BYTES] + b"}"
    digest = sha256(body).hexdigest()
    if digest.encode() != line[-66:-2]:
        raise DamagedError("does not have the hash that it states")
    try:
        return Entry(_decoder.decode(body), line, digest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedError(f"is no record: {error}") from error


def signed_part(line: bytes) -> tuple[bytes, bytes]:
    """What the signature of a checkpoint's line was made over, and the signature.

    Raises:
        DamagedError: there is none.
    """
    body = line[:-_HASH_BYTES] + b"}"
    start = body[-_SIGNATURE_BYTES:]
    if not start.startswith(_SIGNATURE):
        raise DamagedError("is a checkpoint without a signature")
    try:
        signature = bytes.fromhex(start[len(_SIGNATURE) : -2].decode())
    except ValueError:
        raise DamagedError("is a checkpoint with a malformed signature") from None
    return _DOMAIN + body[:-_SIGNATURE_BYTES] + b"}", signature
