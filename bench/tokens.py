"""How long it takes to verify a token of an OpenID Connect issuer whose keys are known.

python -m bench.tokens --tokens 2000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from inferflux_auth_oidc.config import OIDCConfig
from inferflux_auth_oidc.provider import OIDCProvider

AUDIENCE: Final = "inferflux"
MAKE_KEY: Final[dict[str, Callable[[], Key]]] = {
    "RS256": lambda: RSAKey.generate_key(2048, {"kid": "RS256"}),
    "ES256": lambda: ECKey.generate_key("P-256", {"kid": "ES256"}),
    "EdDSA": lambda: OKPKey.generate_key("Ed25519", {"kid": "EdDSA"}),
}


@contextmanager
def issuer(keys: Sequence[Key]) -> Iterator[str]:
    """Publish keys on the loopback interface; yields the issuer's URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document: dict[str, Any] = {"issuer": url, "jwks_uri": f"{url}/keys"}
            if self.path == "/keys":
                document = {"keys": [key.as_dict(private=False) for key in keys]}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def signed(claims: dict[str, Any], algorithm: str, key: Key) -> str:
    """A token as a provider makes it."""
    header = {"alg": algorithm, "kid": key.kid, "typ": "at+jwt"}
    parts = [json.dumps(part).encode() for part in (header, claims)]
    message = b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = JWSRegistry.algorithms[algorithm].sign(message, key)
    return f"{message.decode()}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"


async def measure(url: str, algorithm: str, key: Key, count: int) -> list[float]:
    """Verify so many different tokens; returns the microseconds that each took, in order of size."""
    now = int(time.time())
    claims = {"iss": url, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 600}
    roles = {"realm_access": {"roles": ["operators", "offline_access"]}, "scope": "generate read"}
    tokens = [signed({**claims, **roles, "jti": str(n)}, algorithm, key) for n in range(count)]
    provider = OIDCProvider(
        OIDCConfig(issuer=url, audience=AUDIENCE, role_claim="realm_access.roles")
    )
    await provider.start()
    took = []
    for token in tokens:
        started = time.perf_counter()
        principal = await provider.authenticate(token)
        took.append((time.perf_counter() - started) * 1e6)
        assert principal is not None
    await provider.stop()
    return sorted(took)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a line for each algorithm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=2000, help="of each kind")
    count: int = parser.parse_args(arguments).tokens
    keys = {algorithm: make() for algorithm, make in MAKE_KEY.items()}
    with issuer(list(keys.values())) as url:
        print("| algorithm | p50, µs | p99, µs |\n|---|---|---|")
        for algorithm, key in keys.items():
            took = asyncio.run(measure(url, algorithm, key, count))
            p99 = took[min(len(took) - 1, len(took) * 99 // 100)]
            print(f"| {algorithm} | {statistics.median(took):.0f} | {p99:.0f} |")


if __name__ == "__main__":
    main()
