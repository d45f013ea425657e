"""Asking the server for text: the options of a request and the reading of its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import wraps
from typing import Any, TypeVar

import rich_click as click

from inferflux_cli.answer import Answer
from inferflux_cli.client import Client
from inferflux_cli.render import Output

__all__ = ["Generation", "deliver", "explain_finish", "generation_options", "with_model"]

Result = TypeVar("Result")

_FINISH_NOTES = {
    "length": "note: cut off at the token limit; raise --max-tokens for more",
    "content_filter": "note: a guardrail of the server ended this answer",
}


@dataclass(slots=True)
class Generation:
    """What to generate with; None leaves the choice to the server.

    Attributes:
        max_tokens: longest answer in tokens.
        stop: strings that end the answer.
    """

    model: str | None
    max_tokens: int | None
    temperature: float | None
    stop: tuple[str, ...]
    seed: int | None

    def to_body(self) -> dict[str, Any]:
        """Return the request fields that are set."""
        fields = {k: v for k, v in asdict(self).items() if v is not None and v != ()}
        return {k: list(v) if k == "stop" else v for k, v in fields.items()}


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--model", metavar="NAME", help="Model. [default: the server's first]"),
    click.option("--max-tokens", type=click.IntRange(min=1), help="Longest answer, in tokens."),
    click.option("--temperature", type=click.FloatRange(0, 2), help="0 is deterministic."),
    click.option("--stop", multiple=True, metavar="TEXT", help="End before TEXT; may repeat."),
    click.option("--seed", type=int, help="Seed of the sampler."),
)


def generation_options(command: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate a command with the options of `Generation`, passed as `generation`."""

    @wraps(command)
    def call(
        *,
        model: str | None,
        max_tokens: int | None,
        temperature: float | None,
        stop: tuple[str, ...],
        seed: int | None,
        **others: Any,
    ) -> Result:
        generation = Generation(model, max_tokens, temperature, stop, seed)
        return command(generation=generation, **others)

    decorated: Callable[..., Result] = call
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def explain_finish(output: Output, reason: str | None) -> None:
    """Say on stderr why an answer ended, where that is not simply its end."""
    if reason in _FINISH_NOTES:
        output.note(_FINISH_NOTES[reason])


def with_model(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    """Return `body` with the server's first model in it, unless it names one."""
    if not body.get("model") and (model := client.default_model()):
        return {**body, "model": model}
    return body


def deliver(
    client: Client, output: Output, path: str, body: dict[str, Any], *, stream: bool
) -> Answer:
    """Send one request, write its answer, all at once or as it comes, and return it."""
    answer = Answer()
    body = with_model(client, body)
    try:
        if stream:
            with client.stream(path, body) as chunks:
                for chunk in chunks:
                    text = answer.add(chunk)
                    output.json(chunk)
                    output.text(text)
        else:
            whole = client.post(path, body)
            output.json(whole)
            output.text(answer.add(whole))
    finally:
        output.end()
    explain_finish(output, answer.finish)
    return answer
