"""How much memory models take, and which has to go for another."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from inferflux_api.models.failure import NoRoomError
from inferflux_api.models.served import ServedModel
from inferflux_core.models import reference

__all__ = ["MemoryBudget"]

_KV_ALLOWANCE: Final = 768 * 2**20
"""For keys and values of a model that was never loaded: what backends take at most unless told otherwise."""


class MemoryBudget:
    """What models may take together.

    A loaded model counts with the resident memory of its process, one to be loaded with what it took before,
    or else with the size of its file and an allowance for keys and values.

    Args:
        limit: in bytes; None means that nothing is limited.
        models: those that count.
    """

    def __init__(self, limit: int | None, models: Collection[ServedModel]) -> None:
        self._limit = limit
        self._models = models

    def victim(self, newcomer: ServedModel) -> ServedModel | None:
        """The model to unload next so that another fits: of those that nobody uses, the longest unused.

        None if the newcomer fits, or no other model may go.
        """
        if self._limit is None or self._total(newcomer) <= self._limit:
            return None
        idle = [model for model in self._models if model.is_idle and model is not newcomer]
        return min(idle, key=lambda model: model.last_used or 0.0, default=None)

    def check(self, newcomer: ServedModel) -> None:
        """See whether a model fits beside those that are loaded.

        Raises:
            ModelLoadError: its file cannot be found.
            NoRoomError: it does not fit.
        """
        if self._limit is None:
            return
        others, own = self._others(newcomer), _expected(newcomer)
        # An estimate is no reason to refuse a model that has all the memory for itself.
        least = own if others else _at_least(newcomer)
        if others + least <= self._limit:
            return
        can_pass = own <= self._limit
        raise NoRoomError(
            f"model '{newcomer.name}' needs about {_mib(own)}, others take {_mib(others)}, and "
            f"`runtime.memory_budget_bytes` is {_mib(self._limit)}",
            hint="try again when they are idle"
            if can_pass
            else "raise `runtime.memory_budget_bytes`",
            can_pass=can_pass,
        )

    def _total(self, newcomer: ServedModel) -> int:
        return self._others(newcomer) + _expected(newcomer)

    def _others(self, newcomer: ServedModel) -> int:
        return sum(_taken(m) for m in self._models if m.is_loaded and m is not newcomer)


def _taken(model: ServedModel) -> int:
    measured = model.engine.memory_bytes
    return _expected(model) if measured is None else measured


def _expected(model: ServedModel) -> int:
    if model.is_loaded and model.engine.memory_bytes is not None:
        return model.engine.memory_bytes
    if model.known_bytes is not None or model.config.path is None:
        return model.known_bytes or 0
    return _at_least(model) + _KV_ALLOWANCE


def _at_least(model: ServedModel) -> int:
    if model.known_bytes is not None or model.config.path is None:
        return model.known_bytes or 0
    return reference.size_bytes(model.config.path)


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
