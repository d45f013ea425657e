"""Is this model what somebody we trust has signed?"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from inferflux_core.encrypted_adapters import adapter_name
from inferflux_core.errors import ModelLoadError
from inferflux_core.model_signing.bundle import open_bundle
from inferflux_core.model_signing.files import (
    FileVersion,
    Progress,
    digest_file,
    list_files,
    read_bounded,
)
from inferflux_core.model_signing.statement import WHOLE, Manifest, read_statement
from inferflux_core.models.stores import part_paths

if TYPE_CHECKING:
    from inferflux_core.model_signing.keys import TrustedKeys

__all__ = ["FOLDER_SIGNATURE", "SUFFIX", "VerifiedModel", "Watch", "verify_adapter", "verify_model"]

SUFFIX: Final = ".sig"
FOLDER_SIGNATURE: Final = "model.sig"

Watch = Callable[[int], Progress]
"""Told how many bytes there are to read; gives what is told of each piece."""

_MAX_SIGNATURE_BYTES: Final = 32 << 20
_SIGN: Final = "sign it with: inferctl models sign {} --key FILE"
_ALTERED: Final = "take it from where it was signed, or sign it again if you changed it yourself"


@dataclass(frozen=True, slots=True)
class VerifiedModel:
    """A model that was found to be as signed.

    Attributes:
        path: the model: a file, the first part of one, or a folder.
        signature: the file that says so.
        key_id: who says so.
        versions: of every file that was read, the signature too.
        manifest: what was signed.
    """

    path: Path
    signature: Path
    key_id: str
    versions: dict[Path, FileVersion]
    manifest: Manifest

    def is_unchanged(self) -> bool:
        """Whether all files are still those that were read, and no others came."""
        try:
            now = {path: FileVersion.of(path.stat()) for path in self.versions}
            if now != self.versions:
                return False
            if not self.path.is_dir():
                return True
            return set(_folder_files(self.path, self.signature, self.manifest).values()) == (
                set(now) - {self.signature}
            )
        except (OSError, ModelLoadError):
            return False


def verify_model(
    path: Path, signature: Path | None, keys: TrustedKeys, watch: Watch
) -> VerifiedModel:
    """Compare a model with its signature.

    Args:
        path: a file, the first part of a split model, or a folder.
        signature: None for `NAME.sig` beside the file, or `model.sig` beside it or in the folder.
        keys: whose signatures count.
        watch: told how much there is to read, and how far it is.

    Raises:
        ModelLoadError: it is not signed by one of them, or not as it was signed.
        OSError: a file cannot be read.
    """
    path = path.absolute()
    names = [FOLDER_SIGNATURE] if path.is_dir() else [path.name + SUFFIX, FOLDER_SIGNATURE]
    folder = path if path.is_dir() else path.parent
    found = signature.absolute() if signature else _find(folder, names, path.name)
    manifest, key_id, version = _read_signature(found, keys)
    if path.is_dir():
        files = _folder_files(path, found, manifest)
        _compare_names(files.keys(), manifest, found.name)
    else:
        files = _model_files(path, found, manifest)
    progress = watch(sum(file.stat().st_size for file in files.values()))
    versions = {found: version}
    for name, file in files.items():
        versions[file] = _compare(file, manifest.digests[name], found.name, progress)
    return VerifiedModel(path, found, key_id, versions, manifest)


def verify_adapter(copy: Path, original: Path, keys: TrustedKeys) -> str:
    """Compare a copy of an adapter with the signature beside its original.

    Of an encrypted adapter it is the plain content that was signed, under its plain name.

    Args:
        copy: what is going to be loaded.
        original: where it came from.
        keys: whose signatures count.

    Returns:
        The id of the key that signed it.

    Raises:
        ModelLoadError: it is not signed by one of them, or not as it was signed.
        OSError: a file cannot be read.
    """
    plain = f"{adapter_name(original)}.gguf" if original.suffix == ".enc" else original.name
    found = _find(original.parent, [plain + SUFFIX, FOLDER_SIGNATURE], plain)
    manifest, key_id, _ = _read_signature(found, keys)
    name = WHOLE if WHOLE in manifest.digests else plain
    if name not in manifest.digests:
        raise _not_listed(plain, found.name)
    _compare(copy, manifest.digests[name], found.name, lambda _: None)
    return key_id


def _find(folder: Path, names: list[str], model: str) -> Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise ModelLoadError(
        f"{model} is not signed: there is no {' or '.join(names)} with it", hint=_SIGN.format(model)
    )


def _read_signature(path: Path, keys: TrustedKeys) -> tuple[Manifest, str, FileVersion]:
    data, version = read_bounded(path, _MAX_SIGNATURE_BYTES)
    payload, key_id = open_bundle(data, path.name, keys)
    return read_statement(payload, path.name), key_id, version


def _model_files(path: Path, signature: Path, manifest: Manifest) -> dict[str, Path]:
    """The files that will be loaded, by the names that the signature has for them."""
    parts = part_paths(path)
    if WHOLE in manifest.digests:
        if len(parts) > 1:
            raise _not_listed(parts[1].name, signature.name)
        return {WHOLE: path}
    for root in _roots(path.parent, signature.parent):
        files = {part.relative_to(root).as_posix(): part for part in parts}
        if files.keys() <= manifest.digests.keys():
            return files
    unknown = next((part for part in parts if part.name not in manifest.digests), path)
    raise _not_listed(unknown.name, signature.name)


def _roots(folder: Path, last: Path) -> list[Path]:
    """What names may be relative to: the model's folder, or one around it, up to the signature's."""
    if ".." in folder.parts or not folder.is_relative_to(last):
        return [folder]
    return [root for root in (folder, *folder.parents) if root.is_relative_to(last)]


def _folder_files(folder: Path, signature: Path, manifest: Manifest) -> dict[str, Path]:
    def ignores(name: str) -> bool:
        return manifest.ignores(name) or folder / name == signature

    return list_files(folder, ignores, allow_symlinks=manifest.allow_symlinks)


def _compare_names(names: Set[str], manifest: Manifest, label: str) -> None:
    """Whether a folder holds what was signed, and nothing else."""
    if WHOLE in manifest.digests:
        raise ModelLoadError(f"{label} is the signature of a file, not of a folder", hint=_ALTERED)
    if unknown := sorted(names - manifest.digests.keys()):
        raise _not_listed(unknown[0], label)
    if missing := sorted(manifest.digests.keys() - names):
        raise ModelLoadError(f"{missing[0]} is missing, which {label} lists", hint=_ALTERED)


def _compare(path: Path, expected: str, label: str, progress: Progress) -> FileVersion:
    digest, version = digest_file(path, progress)
    if digest != expected:
        raise ModelLoadError(
            f"{path.name} is not what was signed: its SHA-256 is {digest[:16]}..., and {label} says "
            f"{expected[:16]}...",
            hint=_ALTERED,
        )
    return version


def _not_listed(name: str, label: str) -> ModelLoadError:
    return ModelLoadError(
        f"{name} is not signed: {label} does not list it",
        hint="sign all files of the model together: inferctl models sign",
    )
