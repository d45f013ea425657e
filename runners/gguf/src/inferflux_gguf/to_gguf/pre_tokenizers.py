"""How text is cut before byte-pair encoding: which of llama.cpp's ways a `tokenizer.json` describes."""

from __future__ import annotations

from typing import Any, Final

from inferflux_core.models.folder.fields import Fields

__all__ = ["BYTE_LEVEL", "cuts_of", "pre_tokenizer_of"]

BYTE_LEVEL: Final = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}
"""Bytes as letters, both for cutting text and for putting it together again."""

_DIGITS: Final = "<each digit>"
_WORDS: Final = "<words>"
"""The expression of GPT-2, which byte-level tokenizers have built in."""
_CONTRACTIONS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER: Final = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER: Final = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LLAMA: Final = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}"
_QWEN: Final = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}"
_TEKKEN: Final = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}|"
    + _REST.replace(r"[\r\n]*", r"[\r\n/]*", 1)
)
_O200K: Final = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?|\p{{N}}{{1,3}}|"
    + _REST.replace(r"[\r\n]*", r"[\r\n/]*", 1)
)
_NAMES: Final = {
    # What it is cut by, and whether words that are tokens are taken whole.
    ((_WORDS,), False): "gpt-2",
    ((_DIGITS, _WORDS), False): "smollm",
    ((_QWEN,), False): "qwen2",
    ((_LLAMA,), True): "llama-bpe",
    # Made from Llama 3 before tokenizers could take words whole.
    ((_LLAMA,), False): "smaug-bpe",
    ((_TEKKEN,), True): "tekken",
    ((_O200K,), False): "gpt-4o",
}
_OTHER_NAMES: Final = {
    **dict.fromkeys(("llama3", "llama-v3", "falcon3"), "llama-bpe"),
    **dict.fromkeys(("refact", "starcoder", "command-r", "codeshell"), "smollm"),
    **dict.fromkeys(("deepseek-r1-qwen", "stablelm2", "hunyuan"), "qwen2"),
    **dict.fromkeys(("dbrx",), "smaug-bpe"),
    **dict.fromkeys(("phi-2", "jina-es", "jina-de", "roberta-bpe"), "gpt-2"),
}
"""Of ways that llama.cpp treats alike."""


def pre_tokenizer_of(tokenizer: Fields) -> str:
    """llama.cpp's name for the way a byte-level tokenizer cuts text.

    Raises:
        ModelLoadError: llama.cpp has none of this kind.
    """
    normalizer = tokenizer.object("normalizer")
    # llama.cpp composes no characters; nearly all text is composed already.
    if normalizer.content and normalizer.text("type") != "NFC":
        raise tokenizer.error(
            f"text is normalised by {normalizer.text('type')[:50]!r}, which llama.cpp cannot do"
        )
    cuts = tuple(_cuts(tokenizer.object("pre_tokenizer")))
    whole = tokenizer.object("model").flag("ignore_merges", default=False)
    name = _NAMES.get((cuts, whole))
    if name is None:
        words = ", words that are tokens taken whole" if whole else ""
        raise tokenizer.error(
            f"text is cut in an unknown way: {' then '.join(cuts)[:300]!r}{words}",
            hint=f"known ways are those of {', '.join(_NAMES.values())}",
        )
    return name


def cuts_of(name: str) -> tuple[dict[str, Any], bool] | None:
    """How a `tokenizer.json` describes one of llama.cpp's ways: the inverse of `pre_tokenizer_of`.

    Returns:
        Its pre-tokenizer, and whether words that are tokens are taken whole; None of an unknown name.
    """
    name = _OTHER_NAMES.get(name, name)
    for (cuts, whole), known in _NAMES.items():
        if known == name:
            words = BYTE_LEVEL | {"use_regex": cuts[-1] == _WORDS}
            steps = [_step(cut) for cut in cuts if cut != _WORDS]
            if not steps:
                return words, whole
            return {"type": "Sequence", "pretokenizers": [*steps, words]}, whole
    return None


def _step(cut: str) -> dict[str, Any]:
    if cut == _DIGITS:
        return {"type": "Digits", "individual_digits": True}
    return {"type": "Split", "pattern": {"Regex": cut}, "behavior": "Isolated", "invert": False}


def _cuts(pre_tokenizer: Fields) -> list[str]:
    """What text is cut by, step by step; at last its bytes become letters."""
    steps = [pre_tokenizer]
    if pre_tokenizer.text("type") == "Sequence":
        steps = pre_tokenizer.objects("pretokenizers")
    *before, last = steps or [pre_tokenizer]
    if last.text("type") != "ByteLevel" or last.flag("add_prefix_space", default=True):
        raise last.error(f"llama.cpp cannot cut text by a {last.text('type')[:50]!r} at last")
    words = [_WORDS] if last.flag("use_regex", default=True) else []
    return [_cut(step) for step in before] + words


def _cut(step: Fields) -> str:
    kind = step.text("type")
    if kind == "Digits" and step.flag("individual_digits", default=False):
        return _DIGITS
    if kind == "Split" and step.text("behavior") == "Isolated":
        pattern = step.object("pattern").text("Regex")
        if pattern and not step.flag("invert", default=False):
            return pattern
    raise step.error(f"llama.cpp cannot cut text by a {kind[:50]!r} with these settings")
