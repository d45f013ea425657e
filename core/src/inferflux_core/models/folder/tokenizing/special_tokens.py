"""Which tokens begin texts, end answers and steer the model, by the files beside `tokenizer.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from inferflux_core.models.folder.fields import Fields, read_fields

__all__ = ["SpecialNames", "read_special_names"]

END_NAMES: Final = frozenset(
    {
        *("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|end_of_turn|>"),
        *("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<EOT>", "[EOS]"),
    }
)
"""Control tokens that end a turn or a text wherever they are known; few folders list all they have."""

_NAMES: Final = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialNames:
    """Special tokens as texts, as far as the files name them.

    Attributes:
        bos: begins a text, or "".
        eos: ends it, or "".
        control: those that stand for no text, beside those that `tokenizer.json` says so of.
        end_ids: numbers of tokens with which the model ends an answer.
        add_bos: whether texts are begun with `bos`; None leaves it to `tokenizer.json`.
        add_eos: whether they are ended with `eos`; None leaves it to `tokenizer.json`.
    """

    bos: str = ""
    eos: str = ""
    control: frozenset[str] = frozenset()
    end_ids: frozenset[int] = frozenset()
    add_bos: bool | None = None
    add_eos: bool | None = None


def read_special_names(folder: Path) -> SpecialNames:
    """Read them from a model's folder.

    Raises:
        ModelLoadError: a file is damaged, or says something impossible.
    """
    settings = read_fields(folder / "tokenizer_config.json")
    files = (settings, read_fields(folder / "special_tokens_map.json"))
    config = read_fields(folder / "config.json")
    named = {name: _named(files, name) for name in _NAMES}
    control = {name for name in named.values() if name}
    for file in files:
        control.update(_listed(file))
    control.update(_decoded(settings))
    ends: set[int] = set()
    for source in (
        read_fields(folder / "generation_config.json"),
        config,
        config.object("text_config"),
    ):
        ends.update(_numbers(source, "eos_token_id"))
    return SpecialNames(
        bos=named["bos_token"],
        eos=named["eos_token"],
        control=frozenset(control),
        end_ids=frozenset(ends),
        add_bos=_flag(settings, "add_bos_token"),
        add_eos=_flag(settings, "add_eos_token"),
    )


def _named(files: tuple[Fields, ...], key: str) -> str:
    """The token that the first of some files names, as text or as an object."""
    for file in files:
        if text := _text_of(file, key, file.get(key)):
            return text
    return ""


def _text_of(file: Fields, key: str, value: object) -> str:
    if value is None:
        return ""
    content = value.get("content") if isinstance(value, dict) else value
    if not isinstance(content, str):
        raise file.error(f"{key!r} names no token")
    return content


def _listed(file: Fields) -> Iterator[str]:
    """Further special tokens: a list, or an object of them."""
    for key in ("additional_special_tokens", "extra_special_tokens"):
        value: Any = file.get(key) or ()
        for item in value.values() if isinstance(value, Mapping) else file.array(key):
            yield _text_of(file, key, item)


def _decoded(file: Fields) -> Iterator[str]:
    """Those that are marked as special where the file repeats the added tokens."""
    entries = file.object("added_tokens_decoder")
    for number in entries.content:
        entry = entries.object(number)
        if entry.flag("special", default=False):
            yield entry.text("content")


def _numbers(file: Fields, key: str) -> list[int]:
    value = file.get(key)
    numbers = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise file.error(f"{key!r} must be a token's number, or a list of them")
    return numbers


def _flag(file: Fields, key: str) -> bool | None:
    return None if file.get(key) is None else file.flag(key, default=False)
