"""A registry of models on this machine: Ollama's protocol, and the part of Hugging Face's that is used."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

_KIND = "application/vnd.ollama.image."


@dataclass
class FakeRegistry:
    """What it has, and how it misbehaves.

    Attributes:
        url: where it listens.
        documents: JSON by path.
        files: bytes by path.
        redirects: paths that lead to another one.
        break_after: bytes after which an answer breaks off, for as many times as `breaks` says.
        ranges: whether parts of files can be asked for.
        requests: paths that were asked for, with the ranges.
    """

    url: str = ""
    documents: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    break_after: int = 0
    breaks: int = 0
    ranges: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def add(self, name: str, model: bytes, tag: str = "latest", **texts: str) -> str:
        """Publish a model of Ollama's; returns the digest of its file."""
        layers = []
        parts = {"model": model} | {kind: text.encode() for kind, text in texts.items()}
        for kind, data in parts.items():
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            self.files[f"/v2/library/{name}/blobs/{digest}"] = data
            layers.append({"mediaType": _KIND + kind, "digest": digest, "size": len(data)})
        self.documents[f"/v2/library/{name}/manifests/{tag}"] = {"layers": layers}
        return str(layers[0]["digest"])

    def add_repository(self, name: str, files: dict[str, bytes]) -> None:
        """Publish a repository of Hugging Face's."""
        tree = []
        for path, data in files.items():
            oid = hashlib.sha256(data).hexdigest()
            tree.append({"path": path, "lfs": {"oid": oid, "size": len(data)}})
            self.files[f"/cdn/{oid}"] = data
            self.redirects[f"/{name}/resolve/main/{path}"] = f"/cdn/{oid}"
        self.documents[f"/api/models/{name}/tree/main?recursive=true"] = tree


@contextmanager
def running_registry() -> Iterator[FakeRegistry]:
    """Serve one until the block ends."""
    registry = FakeRegistry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, registry)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()


def _answer(handler: BaseHTTPRequestHandler, registry: FakeRegistry) -> None:
    wanted = handler.headers.get("range")
    registry.requests.append((handler.path, wanted))
    if (target := registry.redirects.get(handler.path)) is not None:
        handler.send_response(302)
        handler.send_header("location", target)
        handler.send_header("content-length", "0")
        handler.end_headers()
        return
    data = registry.files.get(handler.path)
    if handler.path in registry.documents:
        data, wanted = json.dumps(registry.documents[handler.path]).encode(), None
    if data is None:
        handler.send_error(404)
        return
    start = re.fullmatch(r"bytes=(\d+)-", wanted or "") if registry.ranges else None
    handler.send_response(206 if start else 200)
    rest = data[int(start[1]) :] if start else data
    handler.send_header("content-length", str(len(rest)))
    handler.end_headers()
    if registry.breaks and len(rest) > registry.break_after > 0:
        registry.breaks -= 1
        rest = rest[: registry.break_after]
        handler.close_connection = True
    handler.wfile.write(rest)
