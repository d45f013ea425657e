"""How tokenizers that come from SentencePiece treat spaces."""

from __future__ import annotations

from typing import Any, Final

from inferflux_core.models.folder.fields import Fields

__all__ = ["SPACE", "adds_space", "spaces_for"]

SPACE: Final = "▁"
_REPLACE: Final = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_PREPEND: Final = {"type": "Prepend", "prepend": SPACE}
_GEMMA: Final = {
    "type": "Split",
    "pattern": {"String": " "},
    "behavior": "MergedWithPrevious",
    "invert": False,
}


def adds_space(tokenizer: Fields) -> bool:
    """Whether a space is put before texts.

    Hugging Face's `Metaspace` spares texts that begin with a space; llama.cpp does as SentencePiece itself,
    from which the model was trained, and does not.

    Raises:
        ModelLoadError: spaces are treated in another way.
    """
    if tokenizer.object("model").flag("ignore_merges", default=False):
        raise tokenizer.error("it takes words that are tokens whole, which llama.cpp does not here")
    normalizer, cut = tokenizer.get("normalizer"), tokenizer.get("pre_tokenizer")
    if normalizer is None and _is_metaspace(cut):
        return bool(cut.get("prepend_scheme", "always") != "never")
    if cut is None and normalizer == {"type": "Sequence", "normalizers": [_PREPEND, _REPLACE]}:
        return True
    # Nothing is cut where all spaces were replaced before.
    if normalizer == _REPLACE and cut in (None, _GEMMA):
        return False
    raise tokenizer.error(
        "it treats spaces in an unknown way",
        hint="known are the ways of Llama 2, Mistral and Gemma",
    )


def spaces_for(*, prefixed: bool) -> dict[str, Any]:
    """How a `tokenizer.json` says whether a space is put before texts: the inverse of `adds_space`."""
    if prefixed:
        steps = {"type": "Sequence", "normalizers": [_PREPEND, _REPLACE]}
        return {"normalizer": steps, "pre_tokenizer": None}
    return {"normalizer": _REPLACE, "pre_tokenizer": _GEMMA}


def _is_metaspace(cut: Any) -> bool:
    return (
        isinstance(cut, dict)
        and cut.get("type") == "Metaspace"
        and cut.get("replacement") == SPACE
        and cut.get("split") is False
        and cut.get("add_prefix_space", True) is True
        and cut.get("prepend_scheme", "always") in ("always", "first", "never")
    )
