"""Which prefixes to restore, to wait for, and to keep."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from inferflux_core.engine.kv.blocks import BLOCK_SIZE, block_names
from inferflux_core.engine.kv.memory_tier import PrefixCache
from inferflux_core.engine.request import Request
from inferflux_core.engine.runner import ModelRunner, StateExporter

__all__ = ["KVCacheManager"]


@dataclass(slots=True)
class _Prefix:
    """What is known of a request: names of its full blocks, and contents to import into its slot."""

    names: list[bytes] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)


class KVCacheManager:
    """Sits between an engine's requests and its prefix cache.

    A request that begins with blocks of the cache starts after them. A request that begins with a block
    which another one is about to compute is parked until that is done: of 32 requests that arrive together
    with one system prompt, one computes it.

    Args:
        runner: where contents come from and go to; one that cannot export them shares nothing.
        capacity: bytes to keep.
    """

    def __init__(self, runner: ModelRunner, capacity: int) -> None:
        exports = runner.capabilities.exports_state and isinstance(runner, StateExporter)
        self._runner: StateExporter | None = runner if exports and capacity else None  # type: ignore[assignment]
        self.cache = PrefixCache(capacity if exports else 0)
        # Blocks that a live request will compute, and who it is.
        self._leaders: dict[bytes, Request] = {}
        self._parked: dict[int, Request] = {}
        self._prefixes: dict[int, _Prefix] = {}

    @property
    def num_parked(self) -> int:
        """Requests that wait for another's prefix."""
        return len(self._parked)

    def park(self, request: Request) -> bool:
        """Look a new request up; returns whether it had better wait.

        If it need not, what the cache has of it is attached, and the rest of its prompt is announced.
        """
        if self._runner is None:
            return False
        prefix = self._prefixes[request.request_id] = _Prefix()
        names = prefix.names = block_names(request.token_ids, request.cache_salt)
        # The last token is always computed: its logits are what everybody waits for.
        names = names[: (len(request.token_ids) - 1) // BLOCK_SIZE]
        missing = self.cache.missing(names)
        if missing < len(names) and names[missing] in self._leaders:
            self._parked[request.request_id] = request
            return True
        prefix.pieces = self.cache.match(names)
        request.num_computed_tokens = len(prefix.pieces) * BLOCK_SIZE
        request.num_cached_tokens = request.num_computed_tokens
        for name in names[missing:]:
            self._leaders.setdefault(name, request)
        return False

    def unpark(self, request: Request) -> bool:
        """Forget a parked request; returns whether it was one."""
        return self._parked.pop(request.request_id, None) is not None

    def restore(self, request: Request) -> None:
        """Fill the slot that a request has just been given with what the cache had of it."""
        prefix = self._prefixes.get(request.request_id)
        if prefix and prefix.pieces and self._runner is not None and request.slot is not None:
            bounds = range(0, (len(prefix.pieces) + 1) * BLOCK_SIZE, BLOCK_SIZE)
            self._runner.import_state(request.slot, prefix.pieces, bounds)
            prefix.pieces = []

    def collect(self, requests: Iterable[Request]) -> list[Request]:
        """Keep what live requests have newly computed; returns the parked ones that waited for it."""
        released: list[Request] = []
        for request in requests:
            # A full block follows every 64th step of an answer: not worth a copy before the end.
            if request.slot is not None and self._leads(request) and not self._in_prompt(request):
                self._keep(request)
                released += self._release(request)
        return released

    def leave(self, request: Request, *, keep: bool) -> list[Request]:
        """A request ends; returns the parked ones that must look again.

        Args:
            request: it may still have its slot.
            keep: whether what it computed is sound.
        """
        if self._runner is None:
            return []
        if keep and request.slot is not None:
            self._keep(request)
        self._prefixes.pop(request.request_id, None)
        return self._release(request)

    def poll(self) -> list[Request]:
        """Parked requests whose prefix has arrived from disk; they need not look again."""
        return []

    def wait(self, timeout: float) -> None:
        """Sleep until `poll` has something to return, at most `timeout` seconds."""

    def preempt(self, request: Request) -> None:
        """A running request is to give up its slot: keep what is cheaper to restore than to compute.

        Sets `num_computed_tokens` to what `restore` will bring back into its next slot, and
        `num_prefill_tokens` to all tokens it has now. The engine releases the slot afterwards.
        """
        request.num_computed_tokens = 0
        request.num_prefill_tokens = len(request.token_ids)

    def close(self) -> None:
        """Write what has not been written."""

    def check_integrity(self) -> None:
        """Assert that whoever waits has somebody to wait for; for tests."""
        self.cache.check_integrity()
        assert not self._parked or self._leaders, "parked requests without a leader"

    def _leads(self, request: Request) -> bool:
        return any(self._leaders.get(name) is request for name in self._names(request))

    def _names(self, request: Request) -> list[bytes]:
        prefix = self._prefixes.get(request.request_id)
        return prefix.names if prefix else []

    def _in_prompt(self, request: Request) -> bool:
        return request.num_computed_tokens < request.num_prompt_tokens

    def _keep(self, request: Request) -> None:
        """Store the full blocks of a slot that the cache does not have."""
        assert self._runner is not None
        assert request.slot is not None
        computed = request.token_ids[: request.num_computed_tokens]
        prefix = self._prefixes[request.request_id]
        names = block_names(computed, request.cache_salt, prefix.names)
        names = prefix.names = names[: len(computed) // BLOCK_SIZE]
        first = self.cache.missing(names)
        if first == len(names):
            return
        bounds = range(first * BLOCK_SIZE, (len(names) + 1) * BLOCK_SIZE, BLOCK_SIZE)
        contents = self._runner.export_state(request.slot, bounds)
        for name, content in zip(names[first:], contents, strict=True):
            self.cache.store(name, content)

    def _release(self, leader: Request) -> list[Request]:
        """Let everybody go who may have waited for this one; they look again, in order of arrival."""
        led = [name for name, request in self._leaders.items() if request is leader]
        for name in led:
            del self._leaders[name]
        if not led:
            return []
        released = list(self._parked.values())
        self._parked.clear()
        return released
