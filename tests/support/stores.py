"""The folders of other programs, as these programs lay them out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def hugging_face(
    cache: Path, repo: str, *files: str, commit: str = COMMIT, ref: str | None = "main"
) -> Path:
    """What `hf download` leaves behind; returns the repository's folder."""
    store = cache / f"models--{repo.replace('/', '--')}"
    snapshot = store / "snapshots" / commit
    (store / "blobs").mkdir(parents=True, exist_ok=True)
    snapshot.mkdir(parents=True)
    if ref is not None:
        (store / "refs").mkdir(exist_ok=True)
        (store / "refs" / ref).write_text(commit)
    for name in files:
        blob = store / "blobs" / hashlib.sha256(f"{commit}{name}".encode()).hexdigest()
        blob.write_bytes(b"GGUF")
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return store


def ollama(store: Path, name: str, tag: str, weights: Path, *more: str) -> Path:
    """What `ollama pull` leaves behind, with layers of more media types; returns the blob."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    blob = store / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(weights, blob)
    except OSError:
        shutil.copyfile(weights, blob)
    kinds = ("application/vnd.ollama.image.model", "application/vnd.ollama.image.params", *more)
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"digest": "sha256:00", "size": 1},
        "layers": [{"mediaType": kind, "digest": f"sha256:{digest}", "size": 4} for kind in kinds],
    }
    file = store / "manifests" / "registry.ollama.ai" / "library" / name / tag
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(manifest))
    return blob


def lm_studio(home: Path, repo: str, *files: str, folder: str = ".lmstudio/models") -> Path:
    """What `lms get` leaves behind; returns the repository's folder."""
    store = home / folder / repo
    store.mkdir(parents=True)
    for name in files:
        (store / name).write_bytes(b"GGUF")
    return store
