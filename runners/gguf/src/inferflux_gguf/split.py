"""The parts of a split model: what they are called, and whether they belong together.

The first part has the metadata; the others have a few keys that say which part they are, and weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from inferflux_core.errors import ModelLoadError
from inferflux_gguf.layout import Layout

__all__ = ["all_parts", "check_first", "check_part", "check_parts", "part_path"]

_AGAIN: Final = "download all parts again, from one place and in one version"


def part_path(path: Path, number: int, count: int) -> Path:
    """Where part `number` (from 0) of `count` lies, by llama.cpp's convention.

    Args:
        path: the first part.
        number: from 0.
        count: of all parts.

    Raises:
        ModelLoadError: the first part does not have the name that it must have.
    """
    ending = f"-00001-of-{count:05d}.gguf"
    if not path.name.endswith(ending):
        raise ModelLoadError(
            f"{path.name} is the first of {count} parts and llama.cpp cannot find the others",
            hint=f"give the files their original names; this one must end in {ending}",
        )
    return path.with_name(path.name.removesuffix(ending) + f"-{number + 1:05d}-of-{count:05d}.gguf")


def all_parts(path: Path) -> list[Path]:
    """A model's files, by its name alone: one, or all parts of a split model."""
    found = re.search(r"-00001-of-(\d{5})\.gguf$", path.name)
    count = int(found[1]) if found else 1
    return [path, *(part_path(path, number, count) for number in range(1, count))]


def check_first(path: Path, layout: Layout) -> None:
    """Check that a file is not a later part, which would have no metadata of its own.

    Raises:
        ModelLoadError: it is one.
    """
    number, count = _integer(layout, "split.no"), _integer(layout, "split.count")
    if number and count:
        raise ModelLoadError(
            f"{path.name}: it is part {number + 1} of {count} of a split model",
            hint=f"name the part that ends in -00001-of-{count:05d}.gguf in `model.path`",
        )


def check_part(path: Path, layout: Layout, number: int, count: int) -> None:
    """Check that a file is the part that its name says.

    Raises:
        ModelLoadError: it says otherwise.
    """
    own_number = _integer(layout, "split.no")
    own_count = _integer(layout, "split.count")
    if (own_number, own_count) != (number, count):
        said = "no part of a split model"
        if own_number is not None and own_count is not None:
            said = f"part {own_number + 1} of {own_count}"
        raise ModelLoadError(
            f"{path.name} should be part {number + 1} of {count}, and says that it is {said}",
            hint=_AGAIN,
        )


def check_parts(path: Path, parts: Iterable[Layout]) -> None:
    """Check that the parts of a model have together the weights that the first one announces.

    Args:
        path: the first part.
        parts: of all files, in order.

    Raises:
        ModelLoadError: there are too few or too many, or one is there twice.
    """
    layouts = list(parts)
    names = [tensor.name for layout in layouts for tensor in layout.tensors]
    announced = _integer(layouts[0], "split.tensors.count")
    if announced is not None and announced != len(names):
        raise ModelLoadError(
            f"the parts of {path.name} hold {len(names)} tensors and {announced} are announced",
            hint=_AGAIN,
        )
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ModelLoadError(
            f"two parts of {path.name} hold the tensor {twice!r}: they are not of one model",
            hint=_AGAIN,
        )


def _integer(layout: Layout, key: str) -> int | None:
    entry = layout.metadata.get(key)
    value = entry.content if entry else None
    return value if type(value) is int else None
