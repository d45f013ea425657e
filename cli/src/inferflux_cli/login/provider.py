"""What an OpenID Connect provider is asked: its metadata, and its endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import httpx2

from inferflux_cli.addresses import is_loopback, is_private_way
from inferflux_cli.errors import CliError, UnreachableError
from inferflux_cli.shapes import json_object

__all__ = ["OAuthError", "Provider"]

_SECONDS: Final = 10.0
_MAX_BYTES: Final = 256 * 1024
_PLAIN: Final = {"Accept": "application/json", "Accept-Encoding": "identity"}


class OAuthError(CliError):
    """The provider refuses, in the terms of RFC 6749.

    Attributes:
        code: such as `invalid_grant`.
    """

    exit_code = 4

    def __init__(self, code: str, description: str) -> None:
        super().__init__(f"the provider says {code}" + (f": {description}" if description else ""))
        self.code = code


class Provider:
    """An issuer and its endpoints. Use it as a context manager.

    Every method raises `UnreachableError` without a connection, `OAuthError` for a refusal and
    `CliError` for an answer that makes no sense.

    Raises:
        CliError: the issuer is no https URL, nor http on this machine.
    """

    def __init__(self, issuer: str) -> None:
        if not is_private_way(issuer):
            raise CliError(
                f"{issuer} is no issuer to trust", hint="give an https URL, or http on this machine"
            )
        self.issuer = issuer
        self._local = is_loopback(httpx2.URL(issuer).host)
        self._metadata: dict[str, Any] | None = None
        self._http = httpx2.Client(timeout=_SECONDS, headers=_PLAIN, trust_env=not self._local)

    def __enter__(self) -> Provider:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def endpoint(self, name: str) -> str | None:
        """Return an endpoint of the discovery document, None if there is none of this name."""
        url = self._discover().get(f"{name}_endpoint")
        if url is None:
            return None
        if not isinstance(url, str) or not self._is_safe(url):
            raise CliError(f"{self.issuer} names a {name} endpoint that is not safe: {url!r}")
        return url

    def post(self, name: str, form: Mapping[str, str | list[str]]) -> dict[str, Any]:
        """Send a form to an endpoint that must exist, and return the JSON object of the answer."""
        url = self.endpoint(name)
        if url is None:
            raise CliError(f"{self.issuer} has no {name} endpoint")
        status, text = self._exchange("POST", url, form)
        if status != 200:
            raise _refusal(status, text)
        return _object(url, text)

    def revoke(self, token: str, client_id: str) -> bool:
        """Have a token forgotten; False if the provider has no way to."""
        url = self.endpoint("revocation")
        if url is None:
            return False
        status, text = self._exchange("POST", url, {"token": token, "client_id": client_id})
        if status != 200:
            raise _refusal(status, text)
        return True

    def _discover(self) -> dict[str, Any]:
        if self._metadata is None:
            url = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
            status, text = self._exchange("GET", url)
            if status != 200:
                raise CliError(f"{url} answers with HTTP {status}", hint="is --issuer right?")
            found = _object(url, text)
            if found.get("issuer") != self.issuer:
                raise CliError(
                    f"{self.issuer} calls itself {found.get('issuer')!r}",
                    hint="give --issuer exactly as the provider spells it, to the last slash",
                )
            self._metadata = found
        return self._metadata

    def _is_safe(self, url: str) -> bool:
        return is_private_way(url) and (url.startswith("https://") or self._local)

    def _exchange(
        self, method: str, url: str, form: Mapping[str, str | list[str]] | None = None
    ) -> tuple[int, str]:
        try:
            with self._http.stream(method, url, data=form, follow_redirects=False) as response:
                body = bytearray()
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > _MAX_BYTES:
                        raise CliError(f"the answer of {url} is too long")
        except httpx2.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise UnreachableError(f"cannot reach the provider at {url}: {reason}") from error
        return response.status_code, body.decode(errors="replace")


def _object(url: str, text: str) -> dict[str, Any]:
    try:
        return json_object(text)
    except CliError:
        raise CliError(f"the answer of {url} is not a JSON object") from None


def _refusal(status: int, text: str) -> CliError:
    with suppress(CliError):
        body = json_object(text)
        code, description = body.get("error"), body.get("error_description")
        if isinstance(code, str):
            return OAuthError(code, description if isinstance(description, str) else "")
    return CliError(f"the provider answers with HTTP {status}")
