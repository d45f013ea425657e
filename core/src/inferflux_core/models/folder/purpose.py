"""What a model folder is for: texts are written with it, or only embedded and ranked."""

from __future__ import annotations

from typing import Final

from inferflux_core.models.folder.fields import Fields

__all__ = ["only_embeds"]

_BARE: Final = "Model"
_CLASSIFIER: Final = "ForSequenceClassification"
_WITH_HEAD: Final = "LMHeadModel"
"""As in `GPT2LMHeadModel`, which writes."""


def only_embeds(config: Fields) -> bool:
    """Whether its architecture has no head that chooses tokens, so that no text can be written with it.

    Args:
        config: its `config.json`.

    Raises:
        ModelLoadError: `architectures` is no list.
    """
    names = [name for name in config.array("architectures") if isinstance(name, str)]
    return bool(names) and all(
        name.endswith((_BARE, _CLASSIFIER)) and not name.endswith(_WITH_HEAD) for name in names
    )
