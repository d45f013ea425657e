"""`inferctl login` and `logout`: tokens of an OpenID Connect provider instead of an API key."""

from __future__ import annotations

import rich_click as click

from inferflux_cli.commands._help import examples
from inferflux_cli.errors import CliError
from inferflux_cli.login import store
from inferflux_cli.login.device import Invitation, invite, wait_for_tokens
from inferflux_cli.login.provider import Provider
from inferflux_cli.login.tokens import Login, Request
from inferflux_cli.render import Output
from inferflux_cli.settings import connection_options, current_settings

__all__ = ["login", "logout"]


@click.command(
    epilog=examples(
        "inferctl login --issuer https://login.example.org --client-id inferctl",
        "inferctl login --url https://llm.example.org --issuer https://login.example.org"
        " --client-id inferctl --scope 'openid offline_access generate' --audience inferflux",
    )
)
@click.option("--issuer", metavar="URL", required=True, help="The provider, as it spells itself.")
@click.option("--client-id", metavar="ID", required=True, help="What it knows inferctl by.")
@click.option(
    "--scope",
    metavar="SCOPES",
    default="openid offline_access",
    show_default=True,
    help="What to ask for; offline_access is what lets a login last.",
)
@click.option("--audience", metavar="NAME", help="The service, for providers that ask for it.")
@click.option(
    "--resource",
    "resources",
    metavar="URL",
    multiple=True,
    help="The same for providers that follow RFC 8707; repeatable.",
)
@connection_options
def login(
    *, issuer: str, client_id: str, scope: str, audience: str | None, resources: tuple[str, ...]
) -> None:
    """Log in to the server with a browser, on any device.

    Prints an address and a code, and waits until you have confirmed it there. The tokens are kept in
    your configuration folder, for this server only. INFERCTL_API_KEY and --api-key go before a login.
    """
    settings = current_settings()
    output = Output(as_json=settings.json)
    request = Request(issuer, client_id, scope, audience, resources)
    with Provider(issuer) as provider:
        invitation = invite(provider, request)
        _show(output, invitation)
        tokens = wait_for_tokens(provider, request, invitation)
    with store.locked():
        store.keep(settings.url, tokens)
    output.json({"server": settings.url, "issuer": issuer, "expires_at": tokens.expires_at})
    output.text(f"logged in to {settings.url}\n")


@click.command(epilog=examples("inferctl logout", "inferctl logout --url https://llm.example.org"))
@connection_options
def logout() -> None:
    """Forget the login for the server, and have the provider forget it."""
    settings = current_settings()
    output = Output(as_json=settings.json)
    with store.locked():
        tokens = store.find(settings.url)
        if tokens is None:
            raise CliError(f"there is no login for {settings.url}")
        store.forget(settings.url)
    try:
        revoked = _revoke(tokens)
    except CliError as error:
        hint = "until they expire, whoever has a copy of the tokens can use them"
        raise CliError(f"logged out here, but not there: {error.message}", hint=hint) from error
    output.json({"server": settings.url, "revoked": revoked})
    output.text(f"logged out of {settings.url}\n")


def _revoke(tokens: Login) -> bool:
    """Have the provider forget the tokens; False if it has no way to."""
    request = tokens.request
    with Provider(request.issuer) as provider:
        revoked = provider.revoke(tokens.access_token, request.client_id)
        if revoked and tokens.refresh_token is not None:
            provider.revoke(tokens.refresh_token, request.client_id)
    return revoked


def _show(output: Output, invitation: Invitation) -> None:
    output.json(
        {
            "verification_uri": invitation.url,
            "verification_uri_complete": invitation.complete_url,
            "user_code": invitation.user_code,
            "expires_in": invitation.expires_in,
        }
    )
    output.note(f"Visit {invitation.url} and enter the code {invitation.user_code}")
    if invitation.complete_url is not None:
        output.note(f"or visit {invitation.complete_url}")
