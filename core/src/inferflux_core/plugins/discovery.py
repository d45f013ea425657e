"""Which plugins are installed, from the metadata of distributions; imports none of their code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, EntryPoint, distributions

from inferflux_core.plugins.kinds import KINDS

__all__ = ["Discovery", "Provider", "UnreadableDistribution", "discover", "refresh"]


@dataclass(frozen=True, slots=True)
class Provider:
    """A distribution that offers a plugin of some kind and name."""

    kind: str
    name: str
    distribution: str
    version: str
    entry_point: EntryPoint

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True, slots=True)
class UnreadableDistribution:
    """A distribution whose metadata cannot be read, and why."""

    distribution: str
    reason: str


@dataclass(frozen=True, slots=True)
class Discovery:
    """What one scan found.

    Attributes:
        providers: by kind and name, in order of distribution; more than one is a conflict.
        unreadable: distributions that were passed over.
    """

    providers: Mapping[tuple[str, str], tuple[Provider, ...]]
    unreadable: tuple[UnreadableDistribution, ...]

    def names(self, kind: str) -> tuple[str, ...]:
        """The installed names of one kind, sorted."""
        return tuple(name for of_kind, name in self.providers if of_kind == kind)


@cache
def discover() -> Discovery:
    """Scan the installed distributions, once per process.

    `importlib.metadata.entry_points` would do, but for one malformed `entry_points.txt` anywhere on
    the path it fails as a whole.
    """
    kinds = {kind.group: kind.name for kind in KINDS.values()}
    found: list[Provider] = []
    unreadable: list[UnreadableDistribution] = []
    for distribution in distributions():
        try:
            found += [
                _provider(kinds[entry_point.group], entry_point, distribution)
                for entry_point in distribution.entry_points
                if entry_point.group in kinds
            ]
        except Exception as error:
            unreadable.append(UnreadableDistribution(_name_of(distribution), repr(error)))
    return Discovery(_by_name(found), tuple(unreadable))


def refresh() -> None:
    """Forget the scan: something was installed or removed while this process ran."""
    discover.cache_clear()


def _provider(kind: str, entry_point: EntryPoint, distribution: Distribution) -> Provider:
    return Provider(
        kind=kind,
        name=entry_point.name,
        distribution=_name_of(distribution),
        version=distribution.version,
        entry_point=entry_point,
    )


def _name_of(distribution: Distribution) -> str:
    try:
        return distribution.metadata["Name"] or "unknown"
    except Exception:  # METADATA may be missing or unreadable too
        return "unknown"


def _by_name(found: list[Provider]) -> dict[tuple[str, str], tuple[Provider, ...]]:
    # One distribution may be on the path twice, as source tree and installed: the first one counts.
    unique: dict[tuple[str, str, str], Provider] = {}
    for provider in found:
        normalized = provider.distribution.lower().replace("_", "-").replace(".", "-")
        unique.setdefault((provider.kind, provider.name, normalized), provider)
    grouped: dict[tuple[str, str], tuple[Provider, ...]] = {}
    for (kind, name, _), provider in sorted(unique.items()):
        grouped[kind, name] = (*grouped.get((kind, name), ()), provider)
    return grouped
