"""What sentence-transformers wrote into a folder: how states become a vector, and of how many tokens.

See https://sbert.net/docs/sentence_transformer/usage/custom_models.html for its files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.folder.fields import Fields, read_fields, read_list
from inferflux_runner_torch.pooling import Pooling

__all__ = ["SentenceSettings", "read_sentence_settings"]

_MODULES: Final = "modules.json"
_SETTINGS: Final = "config_sentence_transformers.json"
_TRANSFORMER: Final = "Transformer"
_POOLING: Final = "Pooling"
_NORMALISE: Final = "Normalize"
_KNOWN: Final = (_TRANSFORMER, _POOLING, _NORMALISE)
_MODES: Final[dict[str, Pooling]] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
_FLAGS: Final = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
_MAX_TOKENS: Final = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceSettings:
    """How to embed.

    Attributes:
        pooling: of the tokens' states.
        normalised: whether vectors have the length 1.
        max_tokens: of an input, as the model was trained; None if nothing says so.
    """

    pooling: Pooling = "mean"
    normalised: bool = False
    max_tokens: int | None = None


def read_sentence_settings(folder: Path) -> SentenceSettings:
    """Read them; where sentence-transformers left nothing, it is the mean over all tokens.

    Raises:
        ModelLoadError: a file is damaged, or the model does more than pool and normalise.
    """
    own = read_fields(folder / _SETTINGS)
    if own.get("default_prompt_name") is not None:
        raise own.error(
            "texts are to begin with a prompt ('default_prompt_name')",
            hint="set it to null, and let clients write the prompt before their texts",
        )
    modules = read_list(folder / _MODULES)
    if not modules:
        return SentenceSettings()
    kinds = [module.text("type").rpartition(".")[2] for module in modules]
    for module, kind in zip(modules, kinds, strict=True):
        if kind not in _KNOWN:
            raise module.error(
                f"the module {kind[:50]!r} is not known", hint=f"known are {', '.join(_KNOWN)}"
            )
    if kinds not in ([_TRANSFORMER, _POOLING], list(_KNOWN)):
        raise ModelLoadError(
            f"{_MODULES}: it lists {', '.join(kinds)}",
            hint=f"known are {_TRANSFORMER}, {_POOLING} and, if need be, {_NORMALISE}, in this order",
        )
    return SentenceSettings(
        pooling=_pooling(read_fields(_place(folder, modules[1]) / "config.json", required=True)),
        normalised=_NORMALISE in kinds,
        max_tokens=_max_tokens(_place(folder, modules[0])),
    )


def _place(folder: Path, module: Fields) -> Path:
    """The folder of a module, which lies in the model's."""
    name = module.text("path")
    if name in (".", "..") or "\0" in name or Path(name).name != name:
        raise module.error(f"{name[:200]!r} is no name of a folder")
    return folder / name


def _pooling(config: Fields) -> Pooling:
    mode = config.text("pooling_mode")
    chosen = [mode] if mode else [m for k, m in _FLAGS.items() if config.flag(k, default=False)]
    if len(chosen) != 1 or chosen[0] not in _MODES:
        raise config.error(
            f"tokens are pooled by {' and '.join(chosen) or 'nothing'}",
            hint=f"known is one of {', '.join(_MODES)}",
        )
    return _MODES[chosen[0]]


def _max_tokens(place: Path) -> int | None:
    """Each family has a file name of its own, with the same content."""
    for path in sorted(place.glob("sentence_*_config.json")):
        config = read_fields(path)
        if config.flag("do_lower_case", default=False):
            raise config.error(
                "texts are to be made lower case beside the tokenizer ('do_lower_case')",
                hint="set it to false if tokenizer.json does it anyway",
            )
        if config.get("max_seq_length") is not None:
            return config.integer("max_seq_length", None, 1, _MAX_TOKENS)
    return None
