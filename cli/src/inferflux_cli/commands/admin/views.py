"""What administrators get to see, as rows of tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from inferflux_cli.commands.admin.options import LIMITS
from inferflux_cli.commands.admin.times import shown
from inferflux_cli.render import Output
from inferflux_cli.shapes import as_object, as_text

__all__ = [
    "change_text",
    "joined",
    "show_guardrails",
    "show_keys",
    "show_limits",
    "show_roles",
    "show_tenants",
]

_UNITS: Final = dict(
    zip(LIMITS, ("requests/min", "tokens/min", "at once", "tokens/day"), strict=True)
)
_NO_BLOCKLIST: Final = (
    "note: these words are not looked for: the guardrail `blocklist` does not run."
    " Name it in --enable, too"
)


def show_keys(output: Output, keys: Iterable[dict[str, Any]]) -> None:
    """API keys, one a line."""
    columns = ("id", "name", "scopes", "roles", "tenant", "models", "limits", "expires", "said in")
    rows = (
        (
            *(key.get("id"), key.get("name"), joined(key.get("scopes")), joined(key.get("roles"))),
            *(key.get("tenant"), joined(key.get("models"), none="none"), _limits(key)),
            *(shown(key.get("expires_at")), key.get("source")),
        )
        for key in keys
    )
    output.table(columns, rows)


def show_roles(output: Output, roles: Iterable[dict[str, Any]]) -> None:
    """Roles, one a line."""
    rows = ((role.get("name"), joined(role.get("scopes")), role.get("source")) for role in roles)
    output.table(("role", "scopes", "said in"), rows)


def show_tenants(output: Output, tenants: Iterable[dict[str, Any]]) -> None:
    """Tenants, one a line."""
    rows = (
        (
            tenant.get("name"),
            "disabled" if tenant.get("disabled") else "enabled",
            joined(tenant.get("models"), none="none"),
            _limits(tenant),
        )
        for tenant in tenants
    )
    output.table(("tenant", "state", "models", "limits"), rows)


def show_limits(output: Output, limits: dict[str, Any]) -> None:
    """Whose limits there are, one a line."""
    rows = [
        (whom, *(said.get(field) for field in LIMITS), limits.get("source"))
        for whom, said in _limited(limits)
    ]
    output.table(("limits of", *_UNITS.values(), "said in"), rows)


def show_guardrails(output: Output, found: dict[str, Any]) -> None:
    """Which guardrails run and what they are told, but for the words."""
    source = as_object(found.get("source"))
    enabled, words = found.get("enabled"), found.get("blocklist")
    count = len(words) if isinstance(words, list) else 0
    rows: list[Sequence[object]] = [
        ("run, in this order", joined(enabled, none="none"), source.get("enabled")),
        ("blocked words", count, source.get("blocklist")),
        ("options for", joined(list(as_object(found.get("options")))), None),
        ("installed", joined(found.get("available")), None),
    ]
    output.table(("guardrails", "", "said in"), rows)
    if count and isinstance(enabled, list) and "blocklist" not in enabled:
        output.note(_NO_BLOCKLIST)


def change_text(entry: dict[str, Any]) -> tuple[str | None, str | None, str | None]:
    """When a generation was made, by whom, and what was done."""
    change = as_object(entry.get("change"))
    return (
        shown(change.get("at")),
        as_text(change.get("by")) or None,
        as_text(change.get("what")) or None,
    )


def joined(names: object, *, none: str | None = None) -> str | None:
    """Names with commas between them, `none` for an empty list; None for what is no list."""
    if not isinstance(names, list):
        return None
    return ", ".join(map(str, names)) or none


def _limited(limits: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "each tenant", limits
    yield "each key", as_object(limits.get("per_key"))
    for kind in ("tenant", "key", "model"):
        for name, said in sorted(as_object(limits.get(f"{kind}s")).items()):
            yield f"{kind} {name}", as_object(said)


def _limits(entry: dict[str, Any]) -> str | None:
    limits = as_object(entry.get("limits"))
    said = [f"{limits[f]} {unit}" for f, unit in _UNITS.items() if limits.get(f) is not None]
    return ", ".join(said) or None
