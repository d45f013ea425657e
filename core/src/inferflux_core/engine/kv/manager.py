"""Which keys and values are computed once and used many times, and where they are meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from inferflux_core.engine.kv.blocks import BLOCK_SIZE, block_names, tail_name
from inferflux_core.engine.kv.disk_tier import DiskTier
from inferflux_core.engine.kv.leaders import Leaders
from inferflux_core.engine.kv.loads import Arrival, Loads
from inferflux_core.engine.kv.memory_tier import MemoryTier
from inferflux_core.engine.request import Request
from inferflux_core.engine.runner import ModelRunner, PrefixSharer, StateExporter

__all__ = ["KVCacheManager"]

_MIN_TAIL: Final = 16
"""To wait until another has computed fewer tokens takes longer than computing them."""


@dataclass(slots=True)
class _Sequence:
    """What is known of a request's keys and values.

    Attributes:
        names: of its full blocks, as far as they were needed yet.
        tail: name of what follows the full blocks of its prompt, if that is worth waiting for.
        pieces: what to import into its next slot, consecutive from its first token on.
        bounds: where the pieces begin and end.
    """

    names: list[bytes] = field(default_factory=list)
    tail: bytes | None = None
    pieces: list[bytes] = field(default_factory=list)
    bounds: list[int] = field(default_factory=lambda: [0])

    def add(self, piece: bytes, end: int) -> None:
        """Attach a piece behind the others."""
        self.pieces.append(piece)
        self.bounds.append(end)

    def cut_to_blocks(self) -> None:
        """Let go of a piece that ends within a block."""
        if self.bounds[-1] % BLOCK_SIZE:
            self.pieces.pop()
            self.bounds.pop()

    def detach(self) -> None:
        """Let all pieces go."""
        self.pieces, self.bounds = [], [0]


class KVCacheManager:
    """Sits between an engine's requests and what has been computed before.

    A request that begins with blocks which are kept starts after them. One that begins with a block which
    another is about to compute is parked until that is done, and takes over all that the two have in
    common: of 32 requests that arrive together with one system prompt, one computes it. What is kept
    outlives its request in main memory, and its process on disk. From a sequence that is still in its slot
    it need not be copied, if the runner can share it.

    Args:
        runner: where contents come from and go to; one that cannot export them shares nothing.
        capacity: bytes to keep in main memory; 0 shares nothing.
        disk: the second tier.
    """

    def __init__(self, runner: ModelRunner, capacity: int, disk: DiskTier | None = None) -> None:
        exports = runner.capabilities.exports_state and isinstance(runner, StateExporter)
        self._runner: StateExporter | None = runner if exports and capacity else None  # type: ignore[assignment]
        shares = runner.capabilities.shares_prefixes and isinstance(runner, PrefixSharer)
        self._sharer: PrefixSharer | None = runner if shares else None  # type: ignore[assignment]
        self._residents: dict[int, Request] = {}
        self._cost = runner.capabilities.cost
        self._memory = MemoryTier(capacity if exports else 0)
        self._disk = disk
        self._leaders = Leaders()
        self._sequences: dict[int, _Sequence] = {}
        self._parked: dict[int, Request] = {}
        self._loads = Loads(disk, capacity) if disk is not None else None
        # Of preempted requests: memory that the tier's own limit does not count.
        self._suspended: dict[int, int] = {}
        self.queries = 0
        self.hits = 0

    @property
    def num_parked(self) -> int:
        """Requests that wait for another's prefix, or for the disk."""
        return len(self._parked) + (0 if self._loads is None else len(self._loads))

    @property
    def memory_blocks(self) -> int:
        """Blocks in main memory."""
        return len(self._memory)

    @property
    def memory_bytes(self) -> int:
        """Bytes in main memory, those of preempted requests included."""
        return self._memory.size + sum(self._suspended.values())

    @property
    def disk(self) -> DiskTier | None:
        """The second tier."""
        return self._disk

    def park(self, request: Request) -> bool:
        """Look a new request up; returns whether it has to wait.

        If not, what is kept of it is attached, and the rest of its prompt is announced. If so, it will
        be handed out by `poll`, `collect` or `leave`.
        """
        if self._runner is None:
            return False
        sequence = self._sequences.setdefault(request.request_id, _Sequence())
        if request.params.prompt_logprobs is not None:
            # Logits of the whole prompt are wanted: all of it is computed.
            return False
        self._name(request, sequence)
        self._take(sequence, self._memory.match(sequence.names))
        wanted = self._uncomputed(sequence)
        if wanted and self._leaders.follow(wanted[0], request):
            self._parked[request.request_id] = request
            return True
        self._leaders.lead(request, wanted)
        if self._loads is not None and (run := self._loads.available(wanted)):
            sequence.cut_to_blocks()
            self._loads.add(request, run)
            return True
        self._start(request, sequence)
        return False

    def unpark(self, request: Request) -> bool:
        """Forget a parked request; returns whether it was one."""
        self._leaders.unfollow(request)
        loading = self._loads is not None and self._loads.remove(request)
        return self._parked.pop(request.request_id, None) is not None or loading

    def poll(self) -> tuple[list[Request], list[Request]]:
        """Requests whose blocks have come from disk.

        Returns:
            Those that can be scheduled, and those that followed one of them and must look again.
        """
        if self._loads is None:
            return [], []
        ready: list[Request] = []
        followers: list[Request] = []
        for arrival in self._loads.take():
            request = arrival.request
            self._arrive(arrival)
            ready.append(request)
            # What they wait for may be among what has come.
            followers += self._unpark(self._leaders.dismiss(request))
            sequence = self._sequences[request.request_id]
            self._leaders.lead(request, self._uncomputed(sequence))
        return ready, followers

    def wait(self, timeout: float) -> None:
        """Sleep until `poll` has something to return, at most `timeout` seconds."""
        if self._loads is not None:
            self._loads.wait(timeout)

    def restore(self, request: Request) -> None:
        """Fill the slot that a request has just been given with what was kept of it."""
        sequence = self._sequences.get(request.request_id)
        if sequence and sequence.pieces and self._runner is not None and request.slot is not None:
            if not self._share(request, sequence.bounds[-1]):
                self._runner.import_state(request.slot, sequence.pieces, sequence.bounds)
            sequence.detach()
            self._let_go(request)
        self._residents[request.request_id] = request

    def collect(self, requests: Iterable[Request]) -> list[Request]:
        """Keep what live requests have newly computed; returns the parked ones that waited for it."""
        released: list[Request] = []
        for request in requests:
            # A full block follows every 64th step of an answer: not worth a copy before the end.
            if self._leaders.leads(request) and request.slot is not None and request.is_generating:
                released += self._hand_over(request)
        return released

    def leave(self, request: Request, *, keep: bool) -> list[Request]:
        """A request ends; returns the parked ones that must look again.

        Args:
            request: it may still have its slot.
            keep: whether what it computed is sound.
        """
        self._residents.pop(request.request_id, None)
        if self._runner is None:
            return []
        if keep and request.slot is not None:
            followers = self._hand_over(request)
        else:
            followers = self._unpark(self._leaders.dismiss(request))
        self._sequences.pop(request.request_id, None)
        self._let_go(request)
        return followers

    def preempt(self, request: Request) -> list[Request]:
        """A running request is to give up its slot: keep what is sooner restored than computed.

        Sets `num_computed_tokens` to what `restore` will bring back into its next slot, and
        `num_prefill_tokens` to all tokens it has now. The engine releases the slot afterwards.

        Returns:
            Parked requests that waited for this one and must look again.
        """
        computed, request.num_prefill_tokens = request.num_computed_tokens, len(request.token_ids)
        request.num_computed_tokens = 0
        self._residents.pop(request.request_id)
        if self._runner is None:
            return []
        assert request.slot is not None
        sequence = self._sequences[request.request_id]
        if computed and self._worth_exporting(computed):
            (piece,) = self._runner.export_state(request.slot, (0, computed))
            if sum(self._suspended.values()) + len(piece) <= self._memory.capacity:
                self._suspended[request.request_id] = len(piece)
                sequence.add(piece, computed)
        if not sequence.pieces:
            names = sequence.names[: max(len(request.token_ids) - 1, 0) // BLOCK_SIZE]
            self._take(sequence, self._memory.match(names))
        request.num_computed_tokens = sequence.bounds[-1]
        return self._unpark(self._leaders.dismiss(request))

    def close(self) -> None:
        """Write what has not been written."""
        if self._disk is not None:
            self._disk.close()

    def check_integrity(self) -> None:
        """Assert that whoever waits has somebody to wait for; for tests."""
        self._memory.check_integrity()
        self._leaders.check_integrity(self._parked)
        assert self._parked.keys() | self._suspended.keys() <= self._sequences.keys()
        if self._loads is not None:
            self._loads.check_integrity()
        assert all(request.slot is not None for request in self._residents.values())
        for sequence in self._sequences.values():
            assert len(sequence.bounds) == len(sequence.pieces) + 1
            assert sequence.bounds == sorted(set(sequence.bounds)), "pieces out of order"

    def _share(self, request: Request, length: int) -> bool:
        """Fill a request's slot from another's that begins with the same tokens, if there is one."""
        if self._sharer is None:
            return False
        prefix, last = request.token_ids[:length], request.token_ids[length - 1]
        for other in self._residents.values():
            tokens = other.token_ids
            alike = len(tokens) >= length and tokens[length - 1] == last
            if alike and other.cache_salt == request.cache_salt and tokens[:length] == prefix:
                assert request.slot is not None
                assert other.slot is not None
                if self._sharer.share(other.slot, request.slot, length):
                    return True
        return False

    def _start(self, request: Request, sequence: _Sequence) -> None:
        request.num_computed_tokens = request.num_cached_tokens = sequence.bounds[-1]
        self.hits += sequence.bounds[-1] // BLOCK_SIZE

    def _take(self, sequence: _Sequence, blocks: Sequence[bytes]) -> None:
        """Attach the first blocks of a sequence, unless a longer prefix is attached already."""
        if len(blocks) * BLOCK_SIZE > sequence.bounds[-1]:
            sequence.detach()
            for block in blocks:
                sequence.add(block, sequence.bounds[-1] + BLOCK_SIZE)

    def _arrive(self, arrival: Arrival) -> None:
        sequence = self._sequences[arrival.request.request_id]
        for name, content in zip(arrival.names, arrival.contents, strict=False):
            self._memory.store(name, content)
            sequence.add(content, sequence.bounds[-1] + BLOCK_SIZE)
        self._start(arrival.request, sequence)

    def _name(self, request: Request, sequence: _Sequence) -> None:
        """Name the parts of a prompt, but for its last token: its logits are what everybody waits for."""
        if sequence.names or sequence.tail:
            return
        prompt, salt = request.token_ids[:-1], request.cache_salt
        sequence.names = block_names(prompt, salt)
        self.queries += len(sequence.names)
        if len(prompt) % BLOCK_SIZE >= _MIN_TAIL:
            sequence.tail = tail_name(prompt, salt, sequence.names)

    def _uncomputed(self, sequence: _Sequence) -> list[bytes]:
        """Names of the parts of a prompt that are not attached, or not in full."""
        attached = sequence.bounds[-1]
        names = sequence.names[attached // BLOCK_SIZE :]
        if sequence.tail and attached <= len(sequence.names) * BLOCK_SIZE:
            names.append(sequence.tail)
        return names

    def _let_go(self, request: Request) -> None:
        """What was held for a request outside the tier is in its slot, or not needed any more."""
        self._suspended.pop(request.request_id, None)
        if self._loads is not None:
            self._loads.settle(request)

    def _hand_over(self, request: Request) -> list[Request]:
        """Keep what a request has computed; returns who waited for it, with what they have in common."""
        self._keep(request)
        followers = self._unpark(self._leaders.dismiss(request))
        self._share_tail(request, followers)
        return followers

    def _unpark(self, followers: Iterable[Request]) -> list[Request]:
        """Take requests out of the car park, in order of arrival."""
        waiting = [r for r in followers if self._parked.pop(r.request_id, None) is not None]
        return sorted(waiting, key=lambda request: request.arrival)

    def _keep(self, request: Request) -> None:
        """Store the full blocks of a slot that are nowhere yet."""
        assert self._runner is not None
        assert request.slot is not None
        sequence = self._sequences[request.request_id]
        computed = request.token_ids[: request.num_computed_tokens]
        names = block_names(computed, request.cache_salt, sequence.names)
        names = sequence.names = names[: len(computed) // BLOCK_SIZE]
        first = self._memory.missing(names)
        if first == len(names):
            return
        bounds = range(first * BLOCK_SIZE, (len(names) + 1) * BLOCK_SIZE, BLOCK_SIZE)
        contents = self._runner.export_state(request.slot, bounds)
        for name, content in zip(names[first:], contents, strict=True):
            self._memory.store(name, content)
            if self._disk is not None:
                self._disk.store(name, content)

    def _share_tail(self, leader: Request, followers: Sequence[Request]) -> None:
        """Give followers what they have in common with their leader beyond full blocks."""
        assert self._runner is not None
        assert leader.slot is not None
        tails: dict[int, bytes] = {}
        for follower in followers:
            common = _common_length(leader, follower)
            start = common - common % BLOCK_SIZE
            sequence = self._sequences[follower.request_id]
            blocks = self._memory.match(sequence.names[: start // BLOCK_SIZE])
            if start == common or len(blocks) < start // BLOCK_SIZE:
                continue
            if common not in tails:
                (tails[common],) = self._runner.export_state(leader.slot, (start, common))
            sequence.detach()
            self._take(sequence, blocks)
            sequence.add(tails[common], common)

    def _worth_exporting(self, num_tokens: int) -> bool:
        if self._cost is None:
            return True
        copies = 2 * num_tokens * self._cost.copy_seconds_per_token
        return copies < self._cost.prefill_seconds(num_tokens)


def _common_length(leader: Request, follower: Request) -> int:
    """Tokens that a follower need not compute: it computes at least its last one."""
    limit = min(len(follower.token_ids) - 1, leader.num_computed_tokens, len(leader.token_ids))
    for at in range(0, limit, BLOCK_SIZE):
        end = min(at + BLOCK_SIZE, limit)
        mine, theirs = leader.token_ids[at:end], follower.token_ids[at:end]
        if mine != theirs:
            same = (a == b for a, b in zip(mine, theirs, strict=True))
            return at + next(i for i, equal in enumerate(same) if not equal)
    return limit
