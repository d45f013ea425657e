"""How long a login waits between two questions."""

from __future__ import annotations

from typing import Any

import pytest

from inferflux_cli.errors import CliError, UnreachableError
from inferflux_cli.login.device import Invitation, wait_for_tokens
from inferflux_cli.login.provider import OAuthError
from inferflux_cli.login.tokens import Request

REQUEST = Request("https://x", "cli", "openid", None, ())
TOKENS = {"access_token": "at", "token_type": "bearer"}


class Time:
    """Passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds

    def clock(self) -> float:
        return self.now


class Provider:
    """Gives these answers in turn, the last one for ever."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.answers = list(answers)

    def post(self, name: str, form: dict[str, Any]) -> dict[str, Any]:
        assert name == "token"
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


PENDING = OAuthError("authorization_pending", "")
SLOW_DOWN = OAuthError("slow_down", "")
AWAY = UnreachableError("no route")


@pytest.mark.parametrize(
    ("answers", "sleeps"),
    [
        ([TOKENS], [5]),
        ([PENDING, PENDING, TOKENS], [5, 5, 5]),
        ([SLOW_DOWN, PENDING, SLOW_DOWN, TOKENS], [5, 10, 10, 15]),
        ([AWAY, AWAY, PENDING, TOKENS], [5, 10, 20, 20]),
    ],
)
def test_the_wish_of_the_provider_is_honoured(answers: list[Any], sleeps: list[float]) -> None:
    time = Time()
    invitation = Invitation("d", "u", "https://x", None, expires_in=100, interval=5)

    login = wait_for_tokens(Provider(*answers), REQUEST, invitation, time.sleep, time.clock)

    assert (login.access_token, time.sleeps) == ("at", sleeps)


@pytest.mark.parametrize("answer", [PENDING, SLOW_DOWN, AWAY])
def test_nobody_asks_after_the_code_has_expired(answer: Exception) -> None:
    time = Time()
    invitation = Invitation("d", "u", "https://x", None, expires_in=60, interval=5)

    with pytest.raises(CliError, match="not confirmed in time"):
        wait_for_tokens(Provider(answer), REQUEST, invitation, time.sleep, time.clock)

    assert time.now < 60
