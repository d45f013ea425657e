"""What is signed: an in-toto statement that lists a model's files with their SHA-256.

Format: the predicate `https://model_signing/signature/v1.0` of OpenSSF's model-signing, version 1.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import msgspec

from inferflux_core.errors import ModelLoadError

__all__ = ["WHOLE", "Manifest", "read_statement", "write_statement"]

WHOLE: Final = "."
"""The name of the only file, where a single file was signed."""

_TYPE: Final = "https://in-toto.io/Statement/v1"
_PREDICATE: Final = "https://model_signing/signature/v1.0"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_MAX_FILES: Final = 100_000
_AGAIN: Final = "sign the model again: inferctl models sign, or OpenSSF's `model_signing sign key`"


class _Resource(msgspec.Struct):
    name: str
    algorithm: str
    digest: str


class _Serialization(msgspec.Struct):
    method: str
    hash_type: str
    allow_symlinks: bool = False
    ignore_paths: list[str] = []


class _Predicate(msgspec.Struct):
    serialization: _Serialization
    resources: list[_Resource]


class _Subject(msgspec.Struct):
    name: str
    digest: dict[str, str]


class _Statement(msgspec.Struct):
    type: str = msgspec.field(name="_type")
    subject: list[_Subject]
    predicate_type: str = msgspec.field(name="predicateType")
    predicate: msgspec.Raw


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a model.

    Attributes:
        digests: SHA-256 in hexadecimal by the file's name, relative and with slashes; of a single file
            under the name `WHOLE`.
        ignored: names of files and folders that the signer left out.
        allow_symlinks: whether links to files count as files.
    """

    digests: dict[str, str]
    ignored: tuple[str, ...] = ()
    allow_symlinks: bool = False

    def ignores(self, name: str) -> bool:
        """Whether the signer left out this file or folder, or a folder that it is in."""
        path = PurePosixPath(name)
        return any(path.is_relative_to(ignored) for ignored in self.ignored)


def read_statement(payload: bytes, label: str) -> Manifest:
    """What a statement says, which has to be clear in every respect.

    Args:
        payload: the statement.
        label: name of the signature file, for messages.

    Raises:
        ModelLoadError: it is another kind of statement, was made in a way that is not known here, or
            contradicts itself.
    """
    try:
        statement = msgspec.json.decode(payload, type=_Statement)
        if statement.type != _TYPE or statement.predicate_type != _PREDICATE:
            kind = f"{statement.predicate_type[:100]!r} in {statement.type[:100]!r}"
            raise _error(label, f"states {kind}, not the digests of a model")
        predicate = msgspec.json.decode(statement.predicate, type=_Predicate)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _error(label, f"holds no statement about a model: {error}") from None
    made = predicate.serialization
    if (made.method, made.hash_type) != ("files", "sha256"):
        how = f"{made.method[:50]!r} and {made.hash_type[:50]!r}"
        raise _error(label, f"was made with {how}; only SHA-256 of whole files is known here")
    if "." in map(str, map(PurePosixPath, made.ignore_paths)):
        raise _error(label, "leaves everything out")
    digests = _digests(predicate.resources, label)
    _check_subject(statement.subject, digests, label)
    return Manifest(digests, tuple(made.ignore_paths), made.allow_symlinks)


def write_statement(name: str, manifest: Manifest) -> bytes:
    """The statement about a model of that name, in the order that OpenSSF's signer uses."""
    digests = dict(sorted(manifest.digests.items(), key=lambda item: PurePosixPath(item[0])))
    serialization: dict[str, Any] = {
        "method": "files",
        "hash_type": "sha256",
        "allow_symlinks": manifest.allow_symlinks,
        "ignore_paths": list(manifest.ignored),
    }
    resources = [
        {"name": file, "algorithm": "sha256", "digest": digest} for file, digest in digests.items()
    ]
    statement = {
        "_type": _TYPE,
        "subject": [{"name": name, "digest": {"sha256": _root(digests)}}],
        "predicateType": _PREDICATE,
        "predicate": {"serialization": serialization, "resources": resources},
    }
    return msgspec.json.encode(statement)


def _digests(resources: list[_Resource], label: str) -> dict[str, str]:
    if not 0 < len(resources) <= _MAX_FILES:
        raise _error(label, f"lists {len(resources)} files")
    digests: dict[str, str] = {}
    for resource in resources:
        name, shown = resource.name, repr(resource.name[:200])
        if not _is_plain(name) and (name != WHOLE or len(resources) > 1):
            raise _error(label, f"lists {shown}, which is no name of a file in a model")
        if name in digests:
            raise _error(label, f"lists {shown} twice")
        if resource.algorithm != "sha256" or not _SHA256.fullmatch(resource.digest):
            raise _error(label, f"has no SHA-256 of {shown}")
        digests[name] = resource.digest
    return digests


def _is_plain(name: str) -> bool:
    """Whether a name can only lead to a file below the folder that it is relative to."""
    parts = name.split("/")
    return "\0" not in name and not any(part in ("", ".", "..") for part in parts)


def _check_subject(subjects: list[_Subject], digests: dict[str, str], label: str) -> None:
    if [subject.digest.get("sha256") for subject in subjects] != [_root(digests)]:
        raise _error(label, "contradicts itself: its subject is not the sum of its files")


def _root(digests: dict[str, str]) -> str:
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests.values()))).hexdigest()


def _error(label: str, problem: str) -> ModelLoadError:
    return ModelLoadError(f"{label} {problem}", hint=_AGAIN)
