"""`inferctl embed`: texts as vectors."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

import rich_click as click

from inferflux_cli.client import Client
from inferflux_cli.commands._help import examples
from inferflux_cli.errors import CliError
from inferflux_cli.generation import with_model
from inferflux_cli.render import Output
from inferflux_cli.settings import connection_options, current_settings
from inferflux_cli.shapes import as_objects

__all__ = ["embed"]

_BATCH: Final = 64
"""Texts of one request."""
_SHOWN: Final = 5
"""Numbers that people get to see."""


@click.command(
    epilog=examples(
        'inferctl embed "a llama" "an alpaca"',
        "inferctl embed --file lines.txt --output json > vectors.jsonl",
        "inferctl embed --model all-minilm --dimensions 128 < lines.txt",
    )
)
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option(
    "--file", type=click.Path(path_type=Path), metavar="FILE", help="Each line of FILE is a text."
)
@click.option("--model", metavar="NAME", help="Model. [default: the server's first]")
@click.option("--dimensions", type=click.IntRange(min=1), help="Keep so many numbers of each.")
@connection_options
def embed(
    *, texts: tuple[str, ...], file: Path | None, model: str | None, dimensions: int | None
) -> None:
    """Embed each TEXT, or each line of FILE or stdin; empty lines are left out.

    Prints the number of the text, the dimension and the first numbers; everything with --output json,
    a line for each text.
    """
    if texts and file:
        raise click.UsageError("give TEXT or --file, not both.")
    if not texts and not file and sys.stdin.isatty():
        raise click.UsageError("give TEXT, --file FILE, or lines on stdin.")
    settings = current_settings()
    output = Output(as_json=settings.json)
    body: dict[str, Any] = {"model": model, "encoding_format": "float"}
    if dimensions is not None:
        body["dimensions"] = dimensions
    with Client(settings) as client, _lines(file) as lines:
        body = with_model(client, body)
        first = 0
        for batch in _batches(texts or lines):
            _show(output, first, batch, _vectors(client, body, batch))
            first += len(batch)
    if not first:
        raise CliError("there is no text to embed")


def _show(output: Output, first: int, texts: list[str], vectors: list[list[float]]) -> None:
    rows = []
    for number, (text, vector) in enumerate(zip(texts, vectors, strict=True), first):
        output.json({"index": number, "text": text, "embedding": vector})
        shown = " ".join(f"{value:.6g}" for value in vector[:_SHOWN])
        rows.append((number, len(vector), shown + (" ..." if len(vector) > _SHOWN else "")))
    output.table(("text", "dimension", ""), rows)


def _vectors(client: Client, body: dict[str, Any], texts: list[str]) -> list[list[float]]:
    data = as_objects(client.post("/v1/embeddings", {**body, "input": texts}).get("data"))
    try:
        found = {item["index"]: item["embedding"] for item in data}
        vectors = [[float(value) for value in found[i]] for i in range(len(texts))]
    except (KeyError, TypeError, ValueError) as error:
        raise CliError("the server's answer holds no embeddings") from error
    return vectors


@contextmanager
def _lines(file: Path | None) -> Iterator[Iterator[str]]:
    """The lines of a file or of stdin that are not empty."""
    if file is None:
        yield _filled(sys.stdin)
        return
    try:
        opened = file.open(encoding="utf-8", errors="replace")
    except OSError as error:
        raise CliError(f"cannot read {file}: {error.strerror}") from error
    with opened:
        yield _filled(opened)


def _filled(lines: Iterable[str]) -> Iterator[str]:
    return (line.rstrip("\r\n") for line in lines if line.strip())


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    left = iter(texts)
    while batch := list(islice(left, _BATCH)):
        yield batch
