# ruff: noqa: D102 - a test's name says what it shows
"""What every authentication provider must do."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from inferflux_core.auth import SCOPES, AuthProvider, Principal
from inferflux_core.errors import AuthenticationError
from inferflux_core.plugins import AUTH, PluginManager
from inferflux_core.specs import AuthProviderSpec
from inferflux_core.testing.contract import PluginContract

__all__ = ["AuthContract"]

GARBAGE = (
    "",
    " ",
    "x",
    "Bearer x",
    "null",
    "sk-0123456789abcdef",
    "a:b",
    "..",
    "a.b.c",
    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290Iiwic2NvcGUiOiJhZG1pbiJ9.",
    "eyJhbGciOiJIUzI1NiJ9.e30.AAAA",
    "é" * 100,
    "\u0000\u0001\uffff",
    "\ud800",
    "' OR '1'='1",
    "*)(uid=*",
    "../../etc/passwd",
    "%00%0d%0a",
    "A" * 100_000,
    "." * 10_000,
    '{"sub": "root"}',
    "[" * 2_000,
)
"""Credentials that nobody issued."""


class AuthContract(PluginContract):
    """The tests of an authentication provider.

    Example:
        class TestBadge(AuthContract):
            plugin_name = "badge"

            @pytest.fixture
            def options(self):
                return {"badges": {"badge-7": "ada"}}

            @pytest.fixture
            def credential(self):
                return "badge-7"
    """

    kind = AUTH

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        """What an operator would write under `auth.options.<name>`."""
        return {}

    @pytest.fixture
    def credential(self) -> str:
        """Required: a good credential."""
        raise NotImplementedError("override the fixture `credential` of the contract")

    @pytest.fixture
    def provider(self, options: dict[str, Any]) -> AuthProvider:
        """The plugin with its options, not started."""
        spec = cast("AuthProviderSpec", self.spec())
        provider: AuthProvider = spec.factory(PluginManager().options(spec, options))
        return provider

    def test_a_good_credential_names_its_bearer(
        self, provider: AuthProvider, credential: str
    ) -> None:
        first, second = asyncio.run(_authenticate(provider, credential, credential))
        assert isinstance(first, Principal)
        assert first == second
        assert first.subject.strip()
        assert credential not in first.subject, "a subject is written to logs; it is no secret"
        assert first.tenant
        assert first.provider == self.plugin_name
        assert first.scopes <= SCOPES

    def test_an_unknown_credential_is_refused_or_left_to_others(
        self, provider: AuthProvider, credential: str
    ) -> None:
        """And raises nothing but `AuthenticationError`, whose message repeats no credential."""
        forged = (credential[: len(credential) // 2], credential[:-1], f"{credential}x")
        answers = asyncio.run(_authenticate(provider, *GARBAGE, *forged, credential * 2))
        refusals = [a for a in answers if isinstance(a, AuthenticationError)]
        assert len(refusals) + answers.count(None) == len(answers), "accepted what nobody issued"
        for refusal in refusals:
            assert credential[:-1] not in refusal.message

    def test_a_refusal_changes_nothing_for_others(
        self, provider: AuthProvider, credential: str
    ) -> None:
        *_, answer = asyncio.run(_authenticate(provider, *GARBAGE, credential))
        assert isinstance(answer, Principal)

    def test_it_can_be_started_and_stopped_twice(self, provider: AuthProvider) -> None:
        async def scenario() -> None:
            await provider.start()
            await provider.start()
            await provider.stop()
            await provider.stop()

        asyncio.run(scenario())


async def _authenticate(
    provider: AuthProvider, *credentials: str
) -> list[Principal | AuthenticationError | None]:
    """Start, ask for each credential, stop; anything unexpected is raised."""
    answers: list[Principal | AuthenticationError | None] = []
    await provider.start()
    try:
        for credential in credentials:
            try:
                answers.append(await provider.authenticate(credential))
            except AuthenticationError as error:
                answers.append(error)
    finally:
        await provider.stop()
    return answers
