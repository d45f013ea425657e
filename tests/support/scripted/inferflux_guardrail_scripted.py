"""A guardrail for tests: prompts may dictate what answers may not say.

`swordfish` in an answer is blocked. A prompt with `[guardrail fails]` makes it fail.
"""

from __future__ import annotations

from collections.abc import Iterable

from inferflux_core.guardrails import Direction, GuardrailContext, TextFilter
from inferflux_core.guardrails.blocklist import Blocklist, BlocklistConfig
from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import EmptyConfig, GuardrailSpec


class Scripted:
    """Opens another filter for each direction."""

    def __init__(self, config: EmptyConfig) -> None:
        del config
        self._words = Blocklist(BlocklistConfig(words=["swordfish"]))

    def open(self, context: GuardrailContext) -> TextFilter:
        """Start inspecting one stream of text."""
        if context.direction is Direction.OUTPUT:
            return self._words.open(context)
        return _PromptFilter()


class _PromptFilter:
    def feed(self, text: str) -> str:
        if "[guardrail fails]" in text:
            raise RuntimeError("as the prompt asked for")
        return text

    def finish(self) -> str:
        return ""


@hookimpl
def inferflux_guardrails() -> Iterable[GuardrailSpec]:
    """Declare `scripted`."""
    yield GuardrailSpec(
        name="scripted",
        summary="Stops answers, and fails, on request",
        config_type=EmptyConfig,
        factory=Scripted,
    )
