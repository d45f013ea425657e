"""What a `tokenizer.json` says, apart from its vocabulary, which only the `tokenizers` library reads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from tokenizers import Tokenizer

from inferflux_core.errors import ModelLoadError

__all__ = ["FILE", "AddedEntry", "Definition", "ModelEntry", "complaining", "parse_tokenizer"]

FILE: Final = "tokenizer.json"


class AddedEntry(msgspec.Struct, frozen=True):
    """A token that is found in texts before the model of the vocabulary sees them."""

    id: int
    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False


class ModelEntry(msgspec.Struct, frozen=True):
    """How words become tokens; older files leave the type out."""

    type: str = ""
    byte_fallback: bool = False
    ignore_merges: bool = False


class Definition(msgspec.Struct, frozen=True):
    """The parts of the file that decide how tokens are spelt."""

    model: ModelEntry
    added_tokens: list[AddedEntry] = []
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    decoder: dict[str, Any] | None = None

    @classmethod
    def read(cls, data: bytes) -> Definition:
        """Read the file's content.

        Raises:
            ModelLoadError: it is no definition of a tokenizer.
        """
        with complaining():
            return msgspec.json.decode(data, type=cls)


@contextlib.contextmanager
def complaining() -> Iterator[None]:
    """Turns whatever the libraries say about the file into an error for the operator.

    Raises:
        ModelLoadError: anything went wrong.
    """
    try:
        yield
    except ModelLoadError:
        raise
    # The library raises plain exceptions, and where it panics, one that is none.
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
            raise
        raise ModelLoadError(
            f"{FILE} cannot be used: {str(error)[:300]}",
            hint="the whole folder is needed, as the model's authors published it",
        ) from error


def parse_tokenizer(data: bytes) -> Tokenizer:
    """Let the library read a definition.

    Raises:
        ModelLoadError: it cannot.
    """
    with complaining():
        return Tokenizer.from_buffer(data)
