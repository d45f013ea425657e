"""Options that every command takes, before or after its name, and what they add up to."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
import rich_click as click
from click import get_current_context

__all__ = ["API_KEY_VARIABLE", "Settings", "connection_options", "current_settings", "wants_json"]

API_KEY_VARIABLE = "INFERCTL_API_KEY"
CA_FILE_VARIABLE = "INFERCTL_CA_FILE"
CLIENT_CERT_VARIABLE = "INFERCTL_CLIENT_CERT"
CLIENT_KEY_VARIABLE = "INFERCTL_CLIENT_KEY"
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
DEFAULT_TIMEOUT = 600.0

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the server is and how to talk to it.

    Attributes:
        url: base address without a trailing slash or `/v1`.
        api_key: sent as a bearer token; left out of `repr` so that it cannot leak.
        json: machine-readable output was asked for.
        timeout: longest wait, in seconds, for the next byte of an answer.
        ca_file: authorities to trust, in PEM form, instead of the system's.
        client_cert: a certificate to show, and its key, in PEM form.
    """

    url: str
    api_key: str | None
    json: bool
    timeout: float
    ca_file: str | None = None
    client_cert: tuple[str, str] | None = None

    def __repr__(self) -> str:
        return f"Settings(url={self.url!r})"


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep a given value in the dict all contexts share; what stands last, wins."""
    shared: dict[str, Any] = ctx.ensure_object(dict)
    if value is not None and param.name is not None:
        shared[param.name] = value


def _option(*declaration: str, **attributes: Any) -> Callable[[Command], Command]:
    return click.option(
        *declaration, default=None, expose_value=False, callback=_remember, **attributes
    )


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    _option("--host", metavar="HOST", help=f"Server address. [default: {DEFAULT_HOST}]"),
    _option("--port", type=click.IntRange(1, 65535), help=f"[default: {DEFAULT_PORT}]"),
    _option("--url", metavar="URL", help="Full base URL, instead of --host and --port."),
    _option(
        "--api-key", metavar="KEY", help=f"API key; better set {API_KEY_VARIABLE}. Never printed."
    ),
    _option(
        "--ca-file",
        metavar="FILE",
        help=f"Authorities to trust, PEM; or {CA_FILE_VARIABLE}. [default: the system's]",
    ),
    _option(
        "--client-cert",
        metavar="FILE",
        help=f"Certificate to show the server, PEM; or {CLIENT_CERT_VARIABLE}.",
    ),
    _option(
        "--client-key", metavar="FILE", help=f"Its private key, PEM; or {CLIENT_KEY_VARIABLE}."
    ),
    _option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help=f"Longest silence to wait out. [default: {DEFAULT_TIMEOUT:g}]",
    ),
    _option(
        "--output",
        type=click.Choice(["text", "json"]),
        help="json: JSON on stdout (a line each for streams), errors as JSON on stderr.",
    ),
    _option("--json", "output", flag_value="json", help="Short for --output json."),
)


def connection_options(command: Command) -> Command:
    """Decorate a command or group with the options of `Settings`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def wants_json(ctx: click.Context) -> bool:
    """Return whether JSON was asked for, on any level of this command line."""
    return (ctx.obj or {}).get("output") == "json"


def current_settings() -> Settings:
    """Return the settings of the running command.

    Raises:
        click.UsageError: the options contradict each other or cannot be used.
    """
    ctx = get_current_context()
    given: dict[str, Any] = ctx.ensure_object(dict)
    return Settings(
        url=_base_url(given),
        api_key=_api_key(given),
        json=wants_json(ctx),
        timeout=given.get("timeout", DEFAULT_TIMEOUT),
        ca_file=given.get("ca_file") or os.environ.get(CA_FILE_VARIABLE) or None,
        client_cert=_client_cert(given),
    )


def _base_url(given: dict[str, Any]) -> str:
    if "url" in given:
        if "host" in given or "port" in given:
            raise click.UsageError("--url already names host and port: give one or the other.")
        return _checked(given["url"]).removesuffix("/v1")
    host: str = given.get("host", DEFAULT_HOST)
    if not set(host).isdisjoint("/?#@ "):
        raise click.UsageError("--host takes a name or an address; use --url for a URL.")
    address = f"[{host}]" if ":" in host else host
    return _checked(f"http://{address}:{given.get('port', DEFAULT_PORT)}")


def _checked(text: str) -> str:
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL as error:
        raise click.UsageError(f"this is no server address: {error}") from error
    if url.userinfo:
        raise click.UsageError(f"no credentials in the address, please: set {API_KEY_VARIABLE}.")
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise click.UsageError("an address looks like http://HOST:PORT or https://HOST.")
    return text.rstrip("/")


def _client_cert(given: dict[str, Any]) -> tuple[str, str] | None:
    cert = given.get("client_cert") or os.environ.get(CLIENT_CERT_VARIABLE)
    key = given.get("client_key") or os.environ.get(CLIENT_KEY_VARIABLE)
    if bool(cert) != bool(key):
        raise click.UsageError("--client-cert and --client-key go together: give both.")
    return (cert, key) if cert and key else None


def _api_key(given: dict[str, Any]) -> str | None:
    key: str = given.get("api_key") or os.environ.get(API_KEY_VARIABLE) or ""
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise click.UsageError("the API key holds characters that cannot be sent in a header.")
    return key or None
