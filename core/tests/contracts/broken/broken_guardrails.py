"""Guardrails with one defect each; all of them look for `secret`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from inferflux_core.guardrails import Blocked, Direction, Guardrail, GuardrailContext
from inferflux_core.guardrails.blocklist import Blocklist, BlocklistConfig, BlocklistFilter
from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import EmptyConfig, GuardrailSpec

WORDS = BlocklistConfig(words=["secret"])


class Naive:
    """Sees a secret only if it arrives in one piece."""

    def open(self, context: GuardrailContext) -> Naive:
        return self

    def feed(self, text: str) -> str:
        return text.replace("secret", "[...]")

    def finish(self) -> str:
        return ""


class Hoarder(BlocklistFilter):
    def finish(self) -> str:
        super().finish()
        return ""


class Telltale(BlocklistFilter):
    def feed(self, text: str) -> str:
        try:
            return super().feed(text)
        except Blocked:
            raise Blocked("found a secret") from None


class Lenient(BlocklistFilter):
    """Forgets that it has blocked."""

    def feed(self, text: str) -> str:
        self._blocked = False
        return super().feed(text)


class Shared(Blocklist):
    """One filter for everybody."""

    def __init__(self, config: BlocklistConfig) -> None:
        super().__init__(config)
        self._filter = super().open(GuardrailContext("", "", "", Direction.OUTPUT))

    def open(self, context: GuardrailContext) -> BlocklistFilter:
        return self._filter


def with_filter(text_filter: type[BlocklistFilter]) -> Blocklist:
    class Opener(Blocklist):
        def open(self, context: GuardrailContext) -> BlocklistFilter:
            return text_filter(self._automaton)

    return Opener(WORDS)


GUARDRAILS: dict[str, Callable[[EmptyConfig], Guardrail]] = {
    "hoarder": lambda _: with_filter(Hoarder),
    "lenient": lambda _: with_filter(Lenient),
    "naive": lambda _: Naive(),
    "shared": lambda _: Shared(WORDS),
    "telltale": lambda _: with_filter(Telltale),
}


@hookimpl
def inferflux_guardrails() -> Iterable[GuardrailSpec]:
    for name, factory in GUARDRAILS.items():
        yield GuardrailSpec(
            name=name, summary="Broken", api_version=1, config_type=EmptyConfig, factory=factory
        )
