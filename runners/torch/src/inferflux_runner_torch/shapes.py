"""Whether the weights in files are those of the model that the configuration describes."""

from __future__ import annotations

from collections.abc import Mapping

from inferflux_core.errors import ModelLoadError

__all__ = ["Shapes", "check_shapes"]

Shapes = Mapping[str, tuple[int, ...]]
"""Of tensors, by name."""


def check_shapes(
    architecture: str, wanted: Shapes, found: Shapes, spare: tuple[str, ...] = ()
) -> None:
    """See that a checkpoint has the weights of a model, and no others.

    Args:
        architecture: of the model.
        wanted: what it has.
        found: what the checkpoint has.
        spare: ends of names of tensors that may be there, and are not used.

    Raises:
        ModelLoadError: one is missing, has another shape, or is not known.
    """
    hint = "see that config.json and the weights belong to the same model"
    for name, shape in wanted.items():
        if name not in found:
            raise ModelLoadError(f"the weights have no tensor {name!r}", hint=hint)
        if found[name] != shape:
            raise ModelLoadError(
                f"tensor {name!r} has the shape {list(found[name])}, and config.json says {list(shape)}",
                hint=hint,
            )
    for name in found:
        if name not in wanted and not name.endswith(spare):
            raise ModelLoadError(
                f"there is a tensor {name[:200]!r}, which a {architecture} has not", hint=hint
            )
