"""What a provider hands out, and what is kept of it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields
from typing import Any

from inferflux_cli.errors import CliError

__all__ = ["Login", "Request", "logged_in"]


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks for which tokens.

    Attributes:
        issuer: URL of the provider.
        client_id: under which it knows this program.
        scope: words with spaces between them.
        audience: the service that the tokens are for, in the terms of some providers.
        resources: the same, as URLs, in those of RFC 8707.
    """

    issuer: str
    client_id: str
    scope: str
    audience: str | None
    resources: tuple[str, ...]

    def form(self, **more: str) -> dict[str, str | list[str]]:
        """Return the form that a provider gets."""
        form: dict[str, str | list[str]] = {"client_id": self.client_id, **more}
        if self.audience is not None:
            form["audience"] = self.audience
        if self.resources:
            form["resource"] = list(self.resources)
        return form


@dataclass(frozen=True, slots=True)
class Login:
    """Tokens for one server.

    Attributes:
        request: what they were asked for with.
        access_token: what the server gets.
        refresh_token: what the provider gives the next ones for.
        expires_at: Unix time in seconds of the end of the access token; None if nobody knows.
    """

    request: Request
    access_token: str
    refresh_token: str | None
    expires_at: float | None

    def __repr__(self) -> str:
        return f"Login(request={self.request!r}, expires_at={self.expires_at!r})"

    def lasts(self, seconds: float) -> bool:
        """Return whether the access token is good for so many more seconds."""
        return self.expires_at is None or self.expires_at > time.time() + seconds

    def to_json(self) -> dict[str, Any]:
        """Return what the file holds."""
        kept = {name: getattr(self, name) for name in _OWN}
        return {**asdict(self.request), **kept}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Login | None:
        """Read what the file holds; None if it is something else."""
        texts = [kept.get(name) for name in ("issuer", "client_id", "scope", "access_token")]
        options = [kept.get(name) for name in ("audience", "refresh_token")]
        resources, expires = kept.get("resources"), kept.get("expires_at")
        if not (
            all(isinstance(text, str) for text in texts)
            and all(isinstance(text, str | None) for text in options)
            and isinstance(resources, list)
            and all(isinstance(text, str) for text in resources)
            and isinstance(expires, int | float | None)
            and _is_token(kept["access_token"])
        ):
            return None
        named = {field.name: kept[field.name] for field in fields(Request)}
        request = Request(**{**named, "resources": tuple(resources)})
        return cls(request, **{name: kept[name] for name in _OWN})


_OWN = ("access_token", "refresh_token", "expires_at")


def logged_in(request: Request, answer: dict[str, Any], before: str | None = None) -> Login:
    """Read the answer of a token endpoint.

    Args:
        request: what was asked for.
        answer: of the provider.
        before: the refresh token so far, which holds unless there is a new one.

    Raises:
        CliError: there is no token in it that can be used.
    """
    token, kind = answer.get("access_token"), answer.get("token_type")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise CliError(f"the provider gives tokens of another kind than bearer: {kind!r}")
    if not isinstance(token, str) or not _is_token(token):
        raise CliError("the provider's answer holds no access token")
    refresh, seconds = answer.get("refresh_token"), answer.get("expires_in")
    lifetime = seconds if isinstance(seconds, int | float) and 0 < seconds < 1e10 else None
    return Login(
        request,
        access_token=token,
        refresh_token=refresh if isinstance(refresh, str) and refresh else before,
        expires_at=None if lifetime is None else time.time() + lifetime,
    )


def _is_token(text: str) -> bool:
    """Return whether a text can be sent in a header."""
    return bool(text) and text.isascii() and text.isprintable()
