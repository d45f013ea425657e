"""Who computes a block that others wait for."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from inferflux_core.engine.request import Request

__all__ = ["Leaders"]


class Leaders:
    """Blocks that live requests will compute, and the requests that wait for them."""

    def __init__(self) -> None:
        self._by_name: dict[bytes, Request] = {}
        self._led: dict[int, list[bytes]] = {}
        self._followers: dict[int, list[Request]] = {}
        self._followed: dict[int, int] = {}

    def leads(self, request: Request) -> bool:
        """Whether a request has announced blocks that are not computed yet."""
        return request.request_id in self._led

    def lead(self, request: Request, names: Sequence[bytes]) -> None:
        """Announce that a request will compute these blocks, as far as nobody else will."""
        led = [name for name in names if self._by_name.setdefault(name, request) is request]
        if led:
            self._led[request.request_id] = led

    def follow(self, name: bytes, request: Request) -> bool:
        """Wait for a block; returns False if nobody is going to compute it."""
        leader = self._by_name.get(name)
        if leader is None:
            return False
        self._followers.setdefault(leader.request_id, []).append(request)
        self._followed[request.request_id] = leader.request_id
        return True

    def unfollow(self, request: Request) -> None:
        """Wait no longer; nothing happens if it did not."""
        leader = self._followed.pop(request.request_id, None)
        if leader is not None:
            self._followers[leader].remove(request)

    def dismiss(self, request: Request) -> list[Request]:
        """A request leads no longer, for whatever reason; returns those that waited for it."""
        for name in self._led.pop(request.request_id, ()):
            del self._by_name[name]
        followers = self._followers.pop(request.request_id, [])
        for follower in followers:
            del self._followed[follower.request_id]
        return followers

    def check_integrity(self, parked: Collection[int]) -> None:
        """Assert that whoever follows has a leader and is parked; for tests."""
        assert sum(map(len, self._led.values())) == len(self._by_name)
        for follower, leader in self._followed.items():
            assert leader in self._led, f"request {follower} waits for nobody"
        assert set(parked) == set(self._followed), (
            "who is parked follows somebody, and nobody else does"
        )
