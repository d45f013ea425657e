"""What a model folder says it is, and the folders of which no family is run."""

from __future__ import annotations

from typing import Final

from inferflux_core.models.folder.fields import Fields

__all__ = ["architecture_of"]

_REMOTE: Final = (
    "code from a model's folder is never executed; if the model is an ordinary one of its family, "
    "remove `auto_map` from config.json"
)


def architecture_of(config: Fields) -> str:
    """The architecture, as Hugging Face calls it.

    Raises:
        ModelLoadError: there is not exactly one, or the model is not an ordinary one of its family.
    """
    names = config.array("architectures")
    if len(names) != 1 or not isinstance(names[0], str):
        raise config.error("'architectures' must name one architecture")
    if config.get("auto_map") is not None:
        raise config.error("the model comes with code of its own ('auto_map')", hint=_REMOTE)
    if config.get("quantization_config") is not None:
        raise config.error(
            "the weights are quantized already", hint="use the model's original weights"
        )
    return names[0]
