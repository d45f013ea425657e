"""Which tokens begin and end texts, and what is added to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gguf.gguf_writer import GGUFWriter

from inferflux_core.models.folder.fields import Fields, read_fields
from inferflux_gguf.to_gguf.vocabulary import Vocabulary

__all__ = ["KNOWN_ENDS", "SpecialTokens", "read_special_tokens"]

KNOWN_ENDS: Final = frozenset(
    {
        *("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "</s>"),
        *("<|eom_id|>", "<EOT>", "[EOS]", "<|end_of_text|>", "<eos>"),
    }
)
"""llama.cpp ends answers at these, whatever the file says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialTokens:
    """Numbers of tokens.

    Attributes:
        bos: begins texts.
        eos: ends them.
        others: that end answers too, and that llama.cpp would not know by their text; at most two.
        unknown: stands for what cannot be represented.
        padding: fills batches.
        add_bos: whether texts are begun with `bos`.
        add_eos: whether they are ended with `eos`.
    """

    bos: int
    eos: int
    others: list[int]
    unknown: int | None
    padding: int | None
    add_bos: bool
    add_eos: bool

    def describe(self, writer: GGUFWriter) -> None:
        """Add them to a file's metadata."""
        writer.add_bos_token_id(self.bos)
        writer.add_eos_token_id(self.eos)
        for token, add in zip(
            self.others, (writer.add_eot_token_id, writer.add_eom_token_id), strict=False
        ):
            add(token)
        if self.unknown is not None:
            writer.add_unk_token_id(self.unknown)
        if self.padding is not None:
            writer.add_pad_token_id(self.padding)
        writer.add_add_bos_token(self.add_bos)
        writer.add_add_eos_token(self.add_eos)


def read_special_tokens(
    folder: Path, config: Fields, tokenizer: Fields, vocabulary: Vocabulary
) -> SpecialTokens:
    """The special tokens of a model.

    Raises:
        ModelLoadError: they contradict each other, or nothing says where an answer ends.
    """
    named = [
        read_fields(folder / f"{name}.json") for name in ("tokenizer_config", "special_tokens_map")
    ]
    generation = read_fields(folder / "generation_config.json")
    first, last = _around(tokenizer, vocabulary)
    found = {kind: _named(named, kind, vocabulary) for kind in ("bos", "eos", "unk", "pad")}
    ends = _numbers(generation, "eos_token_id", vocabulary)
    ends = ends or _numbers(config, "eos_token_id", vocabulary)
    eos = found["eos"] if found["eos"] is not None else next(iter(ends), last)
    if eos is None:
        raise config.error("nothing says at which token answers end", hint="add 'eos_token_id'")
    bos = found["bos"]
    if bos is None:
        # llama.cpp would take token 11 for it, if the file had none.
        bos = (
            first
            if first is not None
            else next(iter(_numbers(config, "bos_token_id", vocabulary)), eos)
        )
    known = {vocabulary.ids[text] for text in KNOWN_ENDS & vocabulary.ids.keys()} | {eos}
    others = [end for end in ends if end not in known]
    if len(others) > 2:
        raise generation.error("answers end at more tokens than a GGUF file can name")
    for token, wanted, what in ((first, bos, "begun"), (last, eos, "ended")):
        if token not in (None, wanted):
            raise tokenizer.error(f"texts are {what} with token {token}, and not with {wanted}")
    return SpecialTokens(
        bos=bos,
        eos=eos,
        others=others,
        unknown=found["unk"],
        padding=found["pad"],
        add_bos=named[0].flag("add_bos_token", default=first is not None),
        add_eos=named[0].flag("add_eos_token", default=last is not None),
    )


def _named(files: list[Fields], kind: str, vocabulary: Vocabulary) -> int | None:
    """The token that the first of some files names, as text or as an object."""
    key = f"{kind}_token"
    for file in files:
        value = file.get(key)
        text = file.object(key).text("content") if isinstance(value, dict) else file.text(key)
        if text:
            return _id_of(file, text, vocabulary)
    return None


def _id_of(file: Fields, text: str, vocabulary: Vocabulary) -> int:
    token = vocabulary.ids.get(text)
    if token is None:
        raise file.error(f"{text[:100]!r} is none of the tokenizer's tokens")
    return token


def _numbers(file: Fields, key: str, vocabulary: Vocabulary) -> list[int]:
    """One number of a token, or several."""
    value: Any = file.get(key)
    numbers = value if isinstance(value, list) else [] if value is None else [value]
    size = len(vocabulary.tokens)
    if not all(type(number) is int and 0 <= number < size for number in numbers):
        raise file.error(f"{key!r} must be the number of a token, less than {size}")
    return list(dict.fromkeys(numbers))


def _around(tokenizer: Fields, vocabulary: Vocabulary) -> tuple[int | None, int | None]:
    """The tokens that are put before and after a text."""
    processor = tokenizer.object("post_processor")
    several = processor.text("type") == "Sequence"
    steps = processor.objects("processors") if several else [processor]
    first = last = None
    for step in steps:
        kind = step.text("type")
        if kind == "TemplateProcessing":
            first, last = _template(step, vocabulary)
        elif kind not in ("", "ByteLevel"):
            raise step.error(f"llama.cpp cannot add tokens by a {kind[:50]!r}")
    return first, last


def _template(step: Fields, vocabulary: Vocabulary) -> tuple[int | None, int | None]:
    around: list[int | None] = []
    for piece in step.objects("single"):
        if piece.get("Sequence") is not None:
            around.append(None)
        else:
            around.append(_id_of(step, piece.object("SpecialToken").text("id"), vocabulary))
    middle = around.index(None) if around.count(None) == 1 else len(around)
    before, after = around[:middle], around[middle + 1 :]
    if middle == len(around) or len(before) > 1 or len(after) > 1:
        raise step.error("llama.cpp adds at most one token before a text and one after it")
    return next(iter(before), None), next(iter(after), None)
