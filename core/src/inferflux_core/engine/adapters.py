"""Which adapters a model has, under which names, and who still uses them."""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inferflux_core.engine.adapter_copy import private_copy
from inferflux_core.engine.protocol import AdapterUse
from inferflux_core.engine.runner import AdapterHost, AdapterSet, ModelRunner
from inferflux_core.errors import InvalidRequestError, ModelNotFoundError

__all__ = ["MAX_ADAPTERS", "AdapterRegistry"]

MAX_ADAPTERS: Final = 8
"""Adapters that a request may stack."""

_MAX_SCALE: Final = 10.0
_SCALE: Final = struct.Struct("<f")
_NEVER_IN_UTF8: Final = b"\xff"


@dataclass(slots=True, eq=False)
class _Adapter:
    """A loaded adapter; `users` are requests that have not ended."""

    handle: int
    digest: bytes
    users: int = 0
    retired: bool = False


class AdapterRegistry:
    """Adapters by name. A request keeps what it began with, whatever becomes of the name meanwhile.

    `acquire` may be called from any thread, everything else only from the one that executes the model.

    Args:
        runner: what loads them, if it is an `AdapterHost` for this model.
        check: raises for a copy, and its original, that may not be loaded.
    """

    def __init__(
        self,
        runner: ModelRunner,
        check: Callable[[Path, Path], None] = lambda copy, original: None,
    ) -> None:
        hosts = runner.capabilities.hosts_adapters and isinstance(runner, AdapterHost)
        self._host: AdapterHost | None = runner if hosts else None  # type: ignore[assignment]
        self._by_name: dict[str, _Adapter] = {}
        self._by_handle: dict[int, _Adapter] = {}
        self._lock = threading.Lock()
        self._check = check

    def load(self, name: str, path: Path, key_file: Path | None = None) -> None:
        """Load a file, and put it in the place of what had the name.

        Args:
            name: what requests say.
            path: a GGUF file, plain or encrypted, or a folder as PEFT saves it.
            key_file: has the keys of encrypted ones.

        Raises:
            InvalidRequestError: it cannot be read or decrypted, is damaged, was made for another model, or
                is not signed as it has to be.
        """
        if self._host is None:
            raise InvalidRequestError("this model does not take adapters", param="lora_name")
        with private_copy(path, key_file) as (copy, digest):
            self._check(copy, path)
            adapter = _Adapter(self._host.load_adapter(copy), digest)
        with self._lock:
            before = self._by_name.get(name)
            self._by_name[name] = self._by_handle[adapter.handle] = adapter
        if before is not None:
            self._retire(before)

    def unload(self, name: str) -> None:
        """Forget a name.

        Raises:
            ModelNotFoundError: there is none of that name.
        """
        with self._lock:
            adapter = self._by_name.pop(name, None)
        if adapter is None:
            raise ModelNotFoundError(f"adapter '{name}' is not loaded", param="lora_name")
        self._retire(adapter)

    def acquire(self, uses: Sequence[AdapterUse]) -> tuple[AdapterSet, bytes]:
        """Hold the adapters that a request names, until `release`.

        Returns:
            What to apply, and what parts the request's prefixes from those computed with other adapters,
            other versions of them, or other scales. Both are empty if nothing is applied.

        Raises:
            InvalidRequestError: too many, one of them twice, or a scale out of range.
            ModelNotFoundError: one is not loaded.
        """
        _check(uses)
        # With a scale of 0 an adapter changes nothing, so the request is one to the bare model.
        wanted = [use for use in uses if use.scale != 0]
        with self._lock:
            found = [(self._find(use.name), use.scale) for use in wanted]
            for adapter, _ in found:
                adapter.users += 1
        adapters = tuple(sorted((adapter.handle, scale) for adapter, scale in found))
        parts = sorted(adapter.digest + _SCALE.pack(scale) for adapter, scale in found)
        return adapters, _NEVER_IN_UTF8 + b"".join(parts) if parts else b""

    def release(self, adapters: AdapterSet) -> None:
        """A request has ended: free what nobody can ask for any more."""
        for handle, _ in adapters:
            adapter = self._by_handle[handle]
            with self._lock:
                adapter.users -= 1
            self._free_if_unused(adapter)

    def check_integrity(self) -> None:
        """Assert that nothing is kept for nobody; for tests."""
        named = set(self._by_name.values())
        for adapter in self._by_handle.values():
            assert adapter.users >= 0
            assert adapter.retired != (adapter in named)
            assert not adapter.retired or adapter.users, "a retired adapter was not freed"

    def _find(self, name: str) -> _Adapter:
        adapter = self._by_name.get(name)
        if adapter is None:
            raise ModelNotFoundError(f"adapter '{name}' is not loaded", param="adapters")
        return adapter

    def _retire(self, adapter: _Adapter) -> None:
        adapter.retired = True
        self._free_if_unused(adapter)

    def _free_if_unused(self, adapter: _Adapter) -> None:
        # Nobody finds a retired one by name, so its users only grow fewer: no lock is needed.
        if adapter.retired and not adapter.users:
            assert self._host is not None
            del self._by_handle[adapter.handle]
            self._host.free_adapter(adapter.handle)


def _check(uses: Sequence[AdapterUse]) -> None:
    if len(uses) > MAX_ADAPTERS:
        _refuse(f"takes at most {MAX_ADAPTERS} adapters, not {len(uses)}")
    names = [use.name for use in uses]
    for use in uses:
        if names.count(use.name) > 1:
            _refuse(f"names '{use.name}' twice; add up the scales")
        if not (math.isfinite(use.scale) and abs(use.scale) <= _MAX_SCALE):
            _refuse(f"needs scales between {-_MAX_SCALE:g} and {_MAX_SCALE:g}, not {use.scale}")


def _refuse(problem: str) -> None:
    raise InvalidRequestError(f"adapters {problem}", param="adapters")
