"""The credential that a command sends."""

from __future__ import annotations

from typing import Final

from inferflux_cli.errors import CliError, UnreachableError
from inferflux_cli.login import store
from inferflux_cli.login.provider import OAuthError, Provider
from inferflux_cli.login.tokens import Login, logged_in
from inferflux_cli.settings import Settings

__all__ = ["credential"]

_EARLY: Final = 30.0
"""Seconds before its end at which a token is no longer good enough to begin a request with."""


class _EndedError(CliError):
    """A login that is over."""

    exit_code = 4

    def __init__(self, url: str, login: Login, reason: str) -> None:
        request = login.request
        again = f"inferctl login --issuer {request.issuer} --client-id {request.client_id}"
        super().__init__(f"the login for {url} has ended: {reason}", hint=again)


def credential(settings: Settings) -> str | None:
    """Return the API key that was given, or else the access token of the login for this server.

    A token that is about to expire is exchanged for a new one first.

    Raises:
        CliError: the login has ended, or cannot be read.
    """
    if settings.api_key is not None:
        return settings.api_key
    login = store.find(settings.url)
    if login is None:
        return None
    if login.lasts(_EARLY):
        return login.access_token
    with store.locked():
        # Another process may have been quicker.
        login = store.find(settings.url)
        if login is not None and not login.lasts(_EARLY):
            login = _refreshed(settings.url, login)
    return None if login is None else login.access_token


def _refreshed(url: str, login: Login) -> Login:
    if login.refresh_token is None:
        if login.lasts(0):
            return login
        raise _EndedError(url, login, "its token has expired")
    form = login.request.form(grant_type="refresh_token", refresh_token=login.refresh_token)
    try:
        with Provider(login.request.issuer) as provider:
            answer = provider.post("token", form)
    except OAuthError as error:
        raise _EndedError(url, login, error.message) from error
    except UnreachableError:
        if login.lasts(0):
            return login
        raise
    fresh = logged_in(login.request, answer, before=login.refresh_token)
    store.keep(url, fresh)
    return fresh
