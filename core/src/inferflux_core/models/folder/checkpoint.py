"""All weights of a model folder, in one file or in shards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.folder.fields import read_fields
from inferflux_core.models.folder.safetensors_file import StoredTensor, read_header

__all__ = ["read_checkpoint"]

_SINGLE: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_SHARD: Final = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")
_PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def read_checkpoint(folder: Path) -> dict[str, StoredTensor]:
    """The tensors of a folder, by name.

    Raises:
        ModelLoadError: there are none, a shard is missing or damaged, or two contradict each other.
    """
    places = _index(folder)
    files = sorted(set(places.values())) if places else _files(folder)
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        if not (folder / file).is_file():
            raise ModelLoadError(f"the shard {file} is missing", hint="all shards are needed")
        for tensor in read_header(folder / file):
            if tensor.name in tensors:
                raise ModelLoadError(
                    f"tensor {tensor.name[:200]!r} is in two shards", hint="remove foreign shards"
                )
            tensors[tensor.name] = tensor
    for name, file in places.items():
        if name not in tensors or tensors[name].path.name != file:
            raise ModelLoadError(
                f"{_INDEX}: tensor {name[:200]!r} is not in {file}",
                hint="the index and the shards are of different versions: fetch both again",
            )
    return tensors


def _index(folder: Path) -> dict[str, str]:
    """The file of each tensor, as the index says; empty without an index."""
    index = read_fields(folder / _INDEX)
    if not index.content:
        return {}
    places = index.object("weight_map").content
    for file in places.values():
        # A shard lies beside its index, and nowhere else on this machine.
        plain = isinstance(file, str) and "\0" not in file and Path(file).name == file
        if not plain or not file.endswith(".safetensors"):
            raise index.error(f"{str(file)[:200]!r} is no name of a shard")
    if not places:
        raise index.error("it lists no tensors")
    return dict(places)


def _files(folder: Path) -> list[str]:
    """The weights' files where no index names them."""
    names = sorted(path.name for path in folder.iterdir())
    if _SINGLE in names:
        return [_SINGLE]
    shards = [match for name in names if (match := _SHARD.fullmatch(name))]
    if shards:
        count = int(shards[0][2])
        if [(int(match[1]), int(match[2])) for match in shards] != [
            (number, count) for number in range(1, count + 1)
        ]:
            raise ModelLoadError(
                f"{len(shards)} shards of {count} are there", hint="all shards are needed"
            )
        return [match[0] for match in shards]
    if pickles := [name for name in names if name.endswith(_PICKLES)]:
        raise ModelLoadError(
            f"{pickles[0]} is a Python pickle, which could run code when opened",
            hint="the weights are needed as safetensors",
        )
    raise ModelLoadError(
        f"the folder has no {_SINGLE}", hint="the weights are needed as safetensors"
    )
