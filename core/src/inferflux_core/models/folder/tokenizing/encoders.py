"""The two ways to read a text: with the control tokens that are spelt out in it, and without."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import Model

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.folder.tokenizing.definition import (
    FILE,
    AddedEntry,
    complaining,
    parse_tokenizer,
)

__all__ = ["Encoders", "build_encoders"]

# The library would start threads of its own, which the engine's kernels need the cores for.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@dataclass(frozen=True, slots=True)
class Encoders:
    """Tokenizers that share one vocabulary. Any thread may use them, as nothing of them is set anew.

    Attributes:
        reading: takes control tokens in texts as such.
        ignoring: takes them as any other text.
    """

    reading: Tokenizer
    ignoring: Tokenizer


def build_encoders(
    definition: bytes, base: Tokenizer, tokens: Sequence[AddedEntry], control: frozenset[str]
) -> Encoders:
    """Build both.

    A tokenizer can be told to ignore special tokens, but only for all of its users at once: hence two.
    What the file says of truncation and padding is left behind, as it would change prompts.

    Args:
        definition: the content of the file.
        base: as the library reads it.
        tokens: those that are looked for in texts.
        control: those among them that stand for no text.

    Raises:
        ModelLoadError: the library numbers tokens in another way than the file.
    """
    with complaining():
        reading = _assemble(base, base.model, tokens, control)
        prefix = _prefix(definition, base, control)
        if prefix:
            model = _with_renamed(definition, control, prefix)
            renamed = {
                name: prefix + name
                for name in control
                if model.token_to_id(prefix + name) is not None
            }
            ignoring = _assemble(base, model, tokens, control, renamed)
        else:
            ignoring = _assemble(base, base.model, tokens, control)
        ignoring.encode_special_tokens = True
    return Encoders(reading, ignoring)


def _assemble(
    base: Tokenizer,
    model: Model,
    tokens: Sequence[AddedEntry],
    control: frozenset[str],
    renamed: Mapping[str, str] | None = None,
) -> Tokenizer:
    tokenizer = Tokenizer(model)
    if base.normalizer is not None:
        tokenizer.normalizer = base.normalizer
    if base.pre_tokenizer is not None:
        tokenizer.pre_tokenizer = base.pre_tokenizer
    contents = [(renamed or {}).get(token.content, token.content) for token in tokens]
    tokenizer.add_tokens(
        [
            AddedToken(
                content,
                single_word=token.single_word,
                lstrip=token.lstrip,
                rstrip=token.rstrip,
                normalized=token.normalized,
                special=token.content in control,
            )
            for token, content in zip(tokens, contents, strict=True)
        ]
    )
    for token, content in zip(tokens, contents, strict=True):
        if (number := tokenizer.token_to_id(content)) != token.id:
            raise ModelLoadError(
                f"{FILE}: the token {token.content[:100]!r} has the number {token.id}, and would be "
                f"taken for {number}",
                hint="see that the file is as the model's authors published it",
            )
    return tokenizer


class _Model(msgspec.Struct, frozen=True):
    type: str = "BPE"
    ignore_merges: bool = False
    merges: list[tuple[str, str] | str] = []


class _Definition(msgspec.Struct, frozen=True):
    model: _Model


def _prefix(definition: bytes, base: Tokenizer, control: frozenset[str]) -> str:
    """What to begin the names of control tokens with, lest other text become one of them; or "".

    Vocabularies of merges make control tokens of nothing but a merge. Others take any text that is in
    them, so there control tokens get names that nobody can guess.
    """
    if all(base.model.token_to_id(name) is None for name in control):
        return ""
    model = msgspec.json.decode(definition, type=_Definition).model
    by_merges = model.type == "BPE" and not model.ignore_merges
    if by_merges and control.isdisjoint(map(_merged, model.merges)):
        return ""
    return secrets.token_hex(16)


def _merged(merge: str | Sequence[str]) -> str:
    return merge.replace(" ", "") if isinstance(merge, str) else "".join(merge)


def _with_renamed(definition: bytes, control: frozenset[str], prefix: str) -> Model:
    """The vocabulary with control tokens under other names."""
    model: dict[str, Any] = msgspec.json.decode(definition)["model"]

    def rename(name: str) -> str:
        return prefix + name if name in control else name

    vocab = model["vocab"]
    if isinstance(vocab, dict):
        model["vocab"] = {rename(name): number for name, number in vocab.items()}
    else:
        model["vocab"] = [[rename(name), score] for name, score in vocab]
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = rename(model["unk_token"])
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if _merged(merge) not in control]
    renamed: Model = parse_tokenizer(msgspec.json.encode({"version": "1.0", "model": model})).model
    return renamed
