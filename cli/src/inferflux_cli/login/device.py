"""The device authorization flow (RFC 8628): the user confirms in a browser, anywhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from inferflux_cli.addresses import is_private_way
from inferflux_cli.errors import CliError, UnreachableError
from inferflux_cli.login.provider import OAuthError, Provider
from inferflux_cli.login.tokens import Login, Request, logged_in

__all__ = ["Invitation", "invite", "wait_for_tokens"]

_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_INTERVAL: Final = 5.0
_SLOWER: Final = 5.0
_LONGEST: Final = 1800.0


@dataclass(frozen=True, slots=True)
class Invitation:
    """What the user needs in order to confirm.

    Attributes:
        device_code: secret; what the tokens are asked for with.
        user_code: to be typed in at `url`.
        url: of the provider's page.
        complete_url: the same, with the code in it.
        expires_in: seconds in which that must happen.
        interval: seconds between two questions.
    """

    device_code: str
    user_code: str
    url: str
    complete_url: str | None
    expires_in: float
    interval: float

    def __repr__(self) -> str:
        return f"Invitation(url={self.url!r})"


def invite(provider: Provider, request: Request) -> Invitation:
    """Begin a login.

    Raises:
        CliError: the provider refuses, or its answer makes no sense.
    """
    form = request.form(scope=request.scope)
    answer = provider.post("device_authorization", form)
    device, user, url = (
        answer.get(name) for name in ("device_code", "user_code", "verification_uri")
    )
    if not (isinstance(device, str) and isinstance(user, str) and device and user):
        raise CliError("the provider's answer holds no code")
    if not isinstance(url, str) or not is_private_way(url):
        raise CliError(f"the provider wants you to visit a page that is not safe: {url!r}")
    complete = answer.get("verification_uri_complete")
    if not isinstance(complete, str) or not is_private_way(complete):
        complete = None
    expires_in = min(_seconds(answer, "expires_in", _LONGEST), _LONGEST)
    return Invitation(
        device, user, url, complete, expires_in, _seconds(answer, "interval", _INTERVAL)
    )


def wait_for_tokens(
    provider: Provider,
    request: Request,
    invitation: Invitation,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Login:
    """Ask until the user has confirmed.

    Raises:
        CliError: the user refused, or was too late, or the provider's answer makes no sense.
    """
    deadline = clock() + invitation.expires_in
    interval = invitation.interval
    form = request.form(grant_type=_GRANT, device_code=invitation.device_code)
    while clock() + interval < deadline:
        sleep(interval)
        try:
            return logged_in(request, provider.post("token", form))
        except OAuthError as error:
            if error.code == "slow_down":
                interval += _SLOWER
            elif error.code != "authorization_pending":
                raise _explained(error) from None
        except UnreachableError:
            # RFC 8628 asks for more and more patience with a provider that does not answer.
            interval *= 2
    raise _too_late()


def _explained(error: OAuthError) -> CliError:
    if error.code == "expired_token":
        return _too_late()
    if error.code == "access_denied":
        error.message = "the login was refused"
    return error


def _too_late() -> CliError:
    return CliError("the code was not confirmed in time", hint="run the command again")


def _seconds(answer: dict[str, Any], name: str, default: float) -> float:
    value = answer.get(name)
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6
    return float(value) if good and value is not None else default
