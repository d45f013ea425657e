"""The vocabulary of a model folder."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

from inferflux_core.errors import InvalidRequestError, ModelLoadError
from inferflux_core.models.folder.chat_template import read_chat_template
from inferflux_core.models.folder.fields import read_bytes
from inferflux_core.models.folder.tokenizing.definition import (
    FILE,
    Definition,
    complaining,
    parse_tokenizer,
)
from inferflux_core.models.folder.tokenizing.encoders import build_encoders
from inferflux_core.models.folder.tokenizing.special_tokens import (
    END_NAMES,
    SpecialNames,
    read_special_names,
)
from inferflux_core.models.folder.tokenizing.spelling import byte_level, speller_of

__all__ = ["HfTokenizer", "PairFrame", "load_tokenizer"]

_PROBE: Final = "a"


@dataclass(frozen=True, slots=True)
class PairFrame:
    """Tokens before, between and after two texts that a model reads as one input."""

    before: list[int]
    between: list[int]
    after: list[int]


def load_tokenizer(folder: Path, vocab_size: int, *, generates: bool = True) -> HfTokenizer:
    """The tokenizer of a model folder.

    Args:
        folder: as Hugging Face lays it out.
        vocab_size: columns of the model's logits.
        generates: whether the model answers, and something must say where answers end.

    Raises:
        ModelLoadError: a file is missing or damaged, or does not fit the model.
    """
    definition = read_bytes(folder / FILE)
    if definition is None:
        raise ModelLoadError(
            f"the folder has no {FILE}",
            hint="load it with AutoTokenizer of transformers, and save it from there",
        )
    names = read_special_names(folder)
    template = read_chat_template(folder) or None
    return HfTokenizer(definition, names, template, vocab_size, generates=generates)


class HfTokenizer:
    """Tokenizes with Hugging Face's library; safe to use from any thread.

    Args:
        definition: the content of a `tokenizer.json`.
        names: what the files beside it say.
        chat_template: Jinja source.
        vocab_size: columns of the model's logits: models have rows to spare, and tokens beyond them, which
            belong to parts that are not here, are read as text.
        generates: whether the model answers, and something must say where answers end.

    Attributes:
        pair_frame: what two texts are put into to be read together; None if nothing tells them apart.

    Raises:
        ModelLoadError: the definition is damaged, or does not fit the model.
    """

    def __init__(
        self,
        definition: bytes,
        names: SpecialNames,
        chat_template: str | None,
        vocab_size: int,
        *,
        generates: bool = True,
    ) -> None:
        parsed = Definition.read(definition)
        base = parse_tokenizer(definition)
        base.no_truncation()
        base.no_padding()
        self.vocab_size = vocab_size
        self.chat_template = chat_template
        tokens = sorted(
            (token for token in parsed.added_tokens if token.id < vocab_size), key=lambda t: t.id
        )
        by_name = {token.content: token.id for token in tokens}
        with complaining():
            vocab = base.get_vocab(with_added_tokens=False)
        _check_range(vocab, {token.content for token in parsed.added_tokens}, vocab_size)
        numbers = vocab | by_name
        self.bos_text = names.bos
        bos, eos = (_number(numbers, name) for name in (names.bos, names.eos))
        special = {token.content for token in tokens if token.special} | names.control
        ends = {by_name[name] for name in END_NAMES & special & by_name.keys()} | names.end_ids
        if eos is not None:
            ends |= {eos}
        self.end_of_generation_ids = _checked_ends(ends, vocab_size, required=generates)
        control = frozenset(
            name for name, number in by_name.items() if name in special or number in ends
        )
        self._pieces = _pieces(parsed, vocab, by_name, control, vocab_size)
        self.eos_text = names.eos or _text_of(numbers, min(ends, default=-1))
        self._encoders = build_encoders(definition, base, tokens, control)
        self._before, self._after = _around(base)
        self.pair_frame = _pair_frame(base)
        if names.add_bos is not None and bos is not None:
            self._before = [bos] if names.add_bos else []
        if names.add_eos is not None and eos is not None:
            self._after = [eos] if names.add_eos else []

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Tokenize.

        Raises:
            InvalidRequestError: the text cannot be represented.
        """
        encoder = self._encoders.reading if parse_special else self._encoders.ignoring
        try:
            # Of a single text, this one lets other threads run meanwhile.
            (encoding,) = encoder.encode_batch_fast([text], add_special_tokens=False)
        except Exception as error:
            raise InvalidRequestError("the prompt cannot be tokenized by this model") from error
        if not add_special:
            return encoding.ids
        return [*self._before, *encoding.ids, *self._after]

    def encode_pair(self, first: str, second: str) -> list[int]:
        """Tokenize two texts as one input, within the `pair_frame`; control tokens in them are text.

        Raises:
            InvalidRequestError: a text cannot be represented.
        """
        frame = self.pair_frame
        assert frame is not None, "pairs are for tokenizers that know how to frame them"
        before, after = (
            self.encode(text, add_special=False, parse_special=False) for text in (first, second)
        )
        return [*frame.before, *before, *frame.between, *after, *frame.after]

    def piece(self, token_id: int) -> bytes:
        """The bytes of a token; control tokens have none, nor have rows to spare."""
        return self._pieces[token_id]


def _check_range(vocab: dict[str, int], added: set[str], vocab_size: int) -> None:
    for name, number in vocab.items():
        if number >= vocab_size and name not in added:
            raise ModelLoadError(
                f"{FILE}: the token {name[:100]!r} has the number {number}, and the model has "
                f"{vocab_size} tokens",
                hint="see that tokenizer.json and config.json belong to the same model",
            )


def _number(numbers: dict[str, int], name: str) -> int | None:
    if not name:
        return None
    if name not in numbers:
        raise ModelLoadError(
            f"tokenizer_config.json: the token {name[:100]!r} is not in the vocabulary",
            hint="see that it and tokenizer.json belong to the same model",
        )
    return numbers[name]


def _text_of(numbers: dict[str, int], wanted: int) -> str:
    return next((name for name, number in numbers.items() if number == wanted), "")


def _checked_ends(ends: Set[int], vocab_size: int, *, required: bool) -> frozenset[int]:
    if not ends:
        if not required:
            return frozenset()
        raise ModelLoadError(
            "nothing says at which token answers end",
            hint="name it in generation_config.json: 'eos_token_id'",
        )
    if max(ends) >= vocab_size:
        raise ModelLoadError(
            f"answers end at token {max(ends)}, and the model has {vocab_size} tokens",
            hint="see that generation_config.json and config.json belong to the same model",
        )
    return frozenset(ends)


def _pieces(
    parsed: Definition,
    vocab: dict[str, int],
    added: dict[str, int],
    control: frozenset[str],
    vocab_size: int,
) -> list[bytes]:
    spell = speller_of(parsed)
    pieces = [b""] * vocab_size
    for name, number in vocab.items():
        if number < vocab_size:
            pieces[number] = spell(name)
    for name, number in added.items():
        if name in control:
            pieces[number] = b""
        else:
            # They are found in the text itself, before its bytes become letters.
            pieces[number] = name.encode() if spell is byte_level else spell(name)
    return pieces


def _around(base: Tokenizer) -> tuple[list[int], list[int]]:
    """What is added before and after a text."""
    with complaining():
        bare = base.encode(_PROBE, add_special_tokens=False).ids
        whole = base.encode(_PROBE, add_special_tokens=True).ids
    if not whole:
        return [], []
    for start in range(len(whole) - len(bare) + 1 if bare else 0):
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    raise ModelLoadError(
        f"{FILE}: its post-processor changes texts",
        hint="see that the file is as the model's authors published it",
    )


def _pair_frame(base: Tokenizer) -> PairFrame | None:
    with complaining():
        encoding = base.encode(_PROBE, _PROBE, add_special_tokens=True)
    ids, owners = encoding.ids, encoding.sequence_ids
    if 0 not in owners or 1 not in owners:
        return None
    first, second = owners.index(0), owners.index(1)
    end_first, end_second = (len(owners) - owners[::-1].index(owner) for owner in (0, 1))
    frame = PairFrame(ids[:first], ids[end_first:second], ids[end_second:])
    return frame if frame.between else None
