"""Authentication providers with one defect each; `name:0123456789` is a good credential."""

from __future__ import annotations

from collections.abc import Iterable

from inferflux_core.auth import Principal
from inferflux_core.errors import AuthenticationError
from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import AuthProviderSpec, EmptyConfig

SECRET = "0123456789"


class Correct:
    name = ""

    def __init__(self, config: EmptyConfig) -> None:
        pass

    async def start(self) -> None:
        pass

    async def authenticate(self, credential: str) -> Principal | None:
        name, separator, secret = credential.partition(":")
        if not separator:
            return None
        if secret != SECRET:
            raise AuthenticationError("the secret is wrong")
        return Principal(name, frozenset({"read"}), provider=self.name)

    async def stop(self) -> None:
        pass


class Clumsy(Correct):
    """Raises ValueError for whatever has no colon, or two."""

    async def authenticate(self, credential: str) -> Principal | None:
        _, _ = credential.split(":")
        return await super().authenticate(credential)


class Generous(Correct):
    """Takes any beginning of the secret."""

    async def authenticate(self, credential: str) -> Principal | None:
        name, separator, secret = credential.partition(":")
        if separator and SECRET.startswith(secret):
            return Principal(name, frozenset({"read"}), provider=self.name)
        return await super().authenticate(credential)


class Blabber(Correct):
    """Shows what it was given to whoever reads logs."""

    async def authenticate(self, credential: str) -> Principal | None:
        try:
            principal = await super().authenticate(credential)
        except AuthenticationError:
            raise AuthenticationError(f"{credential} is wrong") from None
        return principal and Principal(credential, frozenset({"read"}), provider=self.name)


class Once(Correct):
    stopped = False

    async def stop(self) -> None:
        assert not self.stopped
        self.stopped = True


@hookimpl
def inferflux_auth_providers() -> Iterable[AuthProviderSpec]:
    for provider in (Blabber, Clumsy, Generous, Once):
        provider.name = provider.__name__.lower()
        yield AuthProviderSpec(
            name=provider.name, summary="Broken", api_version=1, factory=provider
        )
