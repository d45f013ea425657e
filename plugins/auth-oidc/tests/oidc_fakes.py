"""A small issuer on the loopback interface that can misbehave, and tokens good and forged."""

from __future__ import annotations

import json
import threading
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from inferflux_auth_oidc.config import OIDCConfig
from inferflux_auth_oidc.provider import OIDCProvider

NOW = 1_800_000_000
UNTIL = NOW + 300 + 60.0  # when a token is over, with the leeway
AUDIENCE = "inferflux"
DISCOVERY = "/.well-known/openid-configuration"
KEYS = "/keys"
INTROSPECTION = "/introspect"

RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"})
RSA_OTHER = RSAKey.generate_key(2048, {"kid": "rsa-2"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed"})

Answer = Callable[[BaseHTTPRequestHandler], None]


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class _Server(ThreadingHTTPServer):
    # Room for those who knock at once; the others would come again after a second.
    request_queue_size = 256


class Issuer:
    """Serves discovery and keys, and what it knows about opaque `tokens`; or what `answers` says instead."""

    def __init__(self) -> None:
        self.keys: list[Key] = [RSA, EC, ED]
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.tokens: dict[str, dict[str, Any]] = {}
        self.questions: list[dict[str, str]] = []
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def token(self, key: Key = RSA, algorithm: str = "RS256", **claims: Any) -> str:
        """A good token; a claim of None is left out."""
        return sign({"alg": algorithm, "kid": key.kid}, self.claims(**claims), key)

    def claims(self, **claims: Any) -> dict[str, Any]:
        good = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "ada",
            "iat": NOW,
            "exp": NOW + 300,
            "scope": "generate read",
        }
        return {name: value for name, value in (good | claims).items() if value is not None}

    def documents(self) -> dict[str, Any]:
        public = [key.as_dict(private=False) for key in self.keys]
        return {
            DISCOVERY: {
                "issuer": self.url,
                "jwks_uri": self.url + KEYS,
                "introspection_endpoint": self.url + INTROSPECTION,
            },
            KEYS: {"keys": public},
        }

    def opaque(self, token: str, **claims: Any) -> str:
        """Make an opaque token known; returns it."""
        about = self.claims(**{"active": True, "token_type": "Bearer", **claims})
        self.tokens[token] = about
        return token

    def introspect(self, form: dict[str, str]) -> dict[str, Any]:
        self.questions.append(form)
        return self.tokens.get(form["token"], {"active": False})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requests.append(self.path)
                answer = issuer.answers.get(self.path)
                if answer is not None:
                    answer(self)
                else:
                    reply(self, json.dumps(issuer.documents()[self.path]).encode())

            def do_POST(self) -> None:
                issuer.requests.append(self.path)
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = dict(parse_qsl(body), authorization=self.headers["Authorization"])
                answer = issuer.answers.get(self.path)
                if answer is not None:
                    answer(self)
                else:
                    reply(self, json.dumps(issuer.introspect(form)).encode())

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def reply(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def encode(part: bytes) -> str:
    return urlsafe_b64encode(part).rstrip(b"=").decode()


def assemble(header: Any, claims: Any, signature: Callable[[bytes], bytes]) -> str:
    """A token of any header, claims (bytes are taken as they are) and signature."""
    parts = [
        part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)
    ]
    signed = ".".join(map(encode, parts))
    return f"{signed}.{encode(signature(signed.encode()))}"


def sign(header: dict[str, Any], claims: Any, key: Key, algorithm: str | None = None) -> str:
    model = JWSRegistry.algorithms[algorithm or header["alg"]]
    return assemble(header, claims, lambda signed: model.sign(signed, key))


@asynccontextmanager
async def running(
    issuer: Issuer, clock: Clock | None = None, now: float = NOW, **options: Any
) -> AsyncIterator[OIDCProvider]:
    """A started provider for the tokens of `issuer`, at Unix time `now`."""
    given = {"issuer": issuer.url, "audience": AUDIENCE, **options}
    config = msgspec.convert(given, OIDCConfig)
    provider = OIDCProvider(config, wall_clock=lambda: now, clock=clock or Clock())
    await provider.start()
    try:
        yield provider
    finally:
        await provider.stop()
