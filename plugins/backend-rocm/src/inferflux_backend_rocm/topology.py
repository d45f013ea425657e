"""Reads the GPUs that Linux's amdkfd driver lists.

Every node under `/sys/class/kfd/kfd/topology/nodes` is a processor; one with `simd_count` above zero
is a GPU. `gfx_target_version` is major * 10000 + minor * 100 + stepping, the last two written in
hexadecimal in a target's name: 90010 is gfx90a.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["gpu_names"]


def gpu_names(nodes: Path) -> tuple[str, ...]:
    """Name the GPUs, e.g. `("navi31 (gfx1100)",)`, in the driver's order.

    Args:
        nodes: the topology folder; nothing is found if it is missing.
    """
    if not nodes.is_dir():
        return ()
    folders = sorted(nodes.iterdir(), key=lambda node: (len(node.name), node.name))
    return tuple(name for folder in folders if (name := _gpu_name(folder)))


def _gpu_name(folder: Path) -> str | None:
    try:
        properties = _properties(folder / "properties")
        name = (folder / "name").read_text(encoding="utf-8").strip()
    except OSError:
        # The driver hides the nodes that a container was not given.
        return None
    if properties.get("simd_count", 0) == 0:
        return None
    target = _target(properties.get("gfx_target_version", 0))
    return f"{name} ({target})" if name else target


def _properties(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def _target(version: int) -> str:
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"
