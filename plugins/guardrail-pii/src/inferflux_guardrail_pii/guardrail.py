"""The guardrail and its filter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from inferflux_core.errors import ConfigError
from inferflux_core.guardrails import Blocked, GuardrailContext
from inferflux_guardrail_pii.config import Entity, EntityAction, PIIConfig
from inferflux_guardrail_pii.rule import Rule
from inferflux_guardrail_pii.rules import build_rules

__all__ = ["PIIFilter", "PIIGuardrail"]


class PIIGuardrail:
    """Looks for personal data in every stream of text.

    Raises:
        ConfigError: nothing is looked for, an override concerns a kind that is not looked for, or a
            phone region does not exist.
    """

    def __init__(self, config: PIIConfig) -> None:
        if not config.entities:
            raise ConfigError(
                "guardrail pii: `entities` is empty",
                hint="Name at least one kind, or remove pii from guardrails.enabled.",
            )
        if unused := sorted(set(config.actions) - set(config.entities)):
            raise ConfigError(
                f"guardrail pii: `actions` names {', '.join(unused)}, which `entities` does not",
                hint="Add it to `entities`, or remove the override.",
            )
        self._rules = build_rules(config.entities, config.phone_regions, config.national_ids)
        self._actions: dict[Entity, EntityAction] = {
            entity: config.actions.get(entity, config.action) for entity in config.entities
        }
        self._allowed = frozenset(text.casefold() for text in config.allow)

    def open(self, context: GuardrailContext) -> PIIFilter:
        """Start inspecting one stream of text."""
        return PIIFilter(self._rules, self._actions, self._allowed, context.flag)


class PIIFilter:
    """Inspects one stream of text; see `inferflux_core.guardrails.TextFilter`.

    Findings are settled from left to right, the one that starts first before the others. Masks are
    not inspected again.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        actions: Mapping[Entity, EntityAction],
        allowed: frozenset[str],
        flag: Callable[[str], None],
    ) -> None:
        self._rules = rules
        self._actions = actions
        self._allowed = allowed
        self._flag = flag
        self._flagged: set[Entity] = set()
        # The text that is held back, after one character that is not: rules look back that far.
        self._text = ""
        self._start = 0
        self._verdict: str | None = None

    def feed(self, text: str) -> str:
        """Take the next piece; return what is decided, with findings masked.

        Raises:
            Blocked: a finding is to be blocked, now or in an earlier piece.
        """
        self._text += text
        return self._settle(
            min(rule.first_undecided(self._text, self._start) for rule in self._rules)
        )

    def finish(self) -> str:
        """Return what was held back, with findings masked.

        Raises:
            Blocked: as in `feed`.
        """
        return self._settle(len(self._text))

    def _settle(self, limit: int) -> str:
        """Release everything before `limit`, and the end of a finding that starts before it."""
        if self._verdict is not None:
            raise Blocked(self._verdict)
        text, start = self._text, self._start
        released = []
        findings = [(rule.find(text, start, limit), rule) for rule in self._rules]
        while pending := [(span, rule) for span, rule in findings if span is not None]:
            # `min` takes the first of equals, and rules are in order of precedence.
            span, rule = min(pending, key=lambda finding: finding[0].start)
            released += [text[start : span.start], self._replace(rule.entity, text[slice(*span)])]
            start = span.end
            findings = [
                (rule.find(text, start, limit) if span.start < start else span, rule)
                for span, rule in pending
            ]
        limit = max(start, limit)
        released.append(text[start:limit])
        kept = max(limit - 1, 0)
        self._text, self._start = text[kept:], limit - kept
        return "".join(released)

    def _replace(self, entity: Entity, found: str) -> str:
        if found.casefold() in self._allowed:
            return found
        if self._actions[entity] == "block":
            self._verdict = f"pii.{entity}"
            self._text = ""
            raise Blocked(self._verdict)
        if self._actions[entity] == "flag":
            if entity not in self._flagged:
                self._flagged.add(entity)
                self._flag(f"pii.{entity}")
            return found
        return f"[{entity.upper()}]"
