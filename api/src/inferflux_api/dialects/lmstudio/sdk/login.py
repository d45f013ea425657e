"""Who an SDK's user is."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from inferflux_api.governance.authentication import Authenticator
from inferflux_core.auth import Principal
from inferflux_core.errors import AuthenticationError

__all__ = ["credentials", "identify"]


async def identify(
    authenticator: Authenticator, headers: Mapping[str, str], frame: dict[str, Any]
) -> Principal:
    """The principal behind a connection.

    Args:
        authenticator: that knows principals.
        headers: of the request that became the WebSocket, by lower-case names.
        frame: the first one, `{"authVersion", "clientIdentifier", "clientPasskey"}`.

    Raises:
        AuthenticationError: nothing of this is a valid key.
    """
    for credential in credentials(headers, frame):
        try:
            return await authenticator.identify(credential)
        except AuthenticationError:
            continue
    raise AuthenticationError(
        "no valid API key: put it into the address, as `user:KEY@host:port`, or send it as the client's "
        "passkey"
    )


def credentials(headers: Mapping[str, str], frame: dict[str, Any]) -> Iterator[str]:
    """Everything that may be a key, what was meant to be one first."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        yield value.strip()
    elif kind.lower() == "basic":
        try:
            decoded = base64.b64decode(value, validate=True).decode()
        except ValueError:
            decoded = ""
        yield decoded.partition(":")[2]
    if key := headers.get("x-api-key"):
        yield key
    identifier, passkey = frame.get("clientIdentifier"), frame.get("clientPasskey")
    if isinstance(passkey, str) and passkey:
        yield passkey
        if isinstance(identifier, str):
            # The SDKs take tokens of LM Studio's kind apart.
            yield f"sk-lm-{identifier}:{passkey}"
