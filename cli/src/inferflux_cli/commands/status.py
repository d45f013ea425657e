"""`inferctl status`: is the server up, what does it serve, how busy is it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import rich_click as click
from click.exceptions import Exit

from inferflux_cli.client import Client
from inferflux_cli.commands._help import examples
from inferflux_cli.errors import ApiError
from inferflux_cli.metrics import key_figures
from inferflux_cli.render import Output
from inferflux_cli.settings import connection_options, current_settings

__all__ = ["status"]

_STUB = "the `stub` backend gives canned answers: no model is loaded. Set model.path in the config."
_MODEL_COLUMNS = ("id", "backend", "state", "device", "error")

Found = TypeVar("Found")


@click.command(
    epilog=examples(
        "inferctl status", "inferctl status --url https://llm.example.org", "inferctl status --json"
    )
)
@connection_options
def status() -> None:
    """Show health, models and load of the server; exit 1 unless it is ready."""
    settings = current_settings()
    output = Output(as_json=settings.json)
    with Client(settings) as client:
        report = _gather(client)
    output.json(report)
    _show(output, report)
    if not report["ready"]:
        raise Exit(1)


def _gather(client: Client) -> dict[str, Any]:
    health_code, health = client.probe("/healthz")
    ready_code, readiness = client.probe("/readyz")
    state = readiness.get("status") or ("ready" if ready_code == 200 else "not ready")
    notes: list[str] = []
    models = _optional(lambda: _models(client, readiness), "models", notes) or []
    figures = _optional(lambda: key_figures(client.get_text("/metrics")), "figures", notes) or {}
    if any(found.get("backend") == "stub" for found in [readiness, *models]):
        notes.append(_STUB)
    return {
        "url": client.url,
        "health": health.get("status") or ("ok" if health_code == 200 else f"HTTP {health_code}"),
        "ready": ready_code == 200 and state == "ready",
        "state": state,
        "models": models,
        "figures": figures,
        "notes": notes,
    }


def _models(client: Client, readiness: dict[str, Any]) -> list[dict[str, Any]]:
    known = readiness.get("models")
    found = [m for m in known if isinstance(m, dict)] if isinstance(known, list) else []
    return found or client.models()


def _optional(get: Callable[[], Found], what: str, notes: list[str]) -> Found | None:
    """Return what the server shows this key, or note why it does not."""
    try:
        return get()
    except ApiError as error:
        hint = f" ({error.hint})" if error.hint else ""
        notes.append(f"{what} not shown: {error.message}{hint}")
        return None


def _show(output: Output, report: dict[str, Any]) -> None:
    facts = {"server": report["url"], "health": report["health"], "state": report["state"]}
    output.table(("", ""), [*facts.items(), *report["figures"].items()])
    if report["models"]:
        output.text("\n")
        shown = [c for c in _MODEL_COLUMNS if any(m.get(c) is not None for m in report["models"])]
        output.table(shown, [[m.get(c) for c in shown] for m in report["models"]])
    for note in report["notes"]:
        output.note(f"note: {note}")
