"""One tenant's requests and account."""

from __future__ import annotations

from dataclasses import dataclass, field

from inferflux_core.engine.request import Request
from inferflux_core.schedulers.queue import RequestQueue, by_priority

__all__ = ["Tenant"]


@dataclass(slots=True)
class Tenant:
    """A tenant.

    Attributes:
        weight: its share relative to others'.
        served: cost of all tokens computed for it, over its weight.
        waiting: requests without a slot.
        running: those with one, in order of admission.
    """

    weight: float
    served: float = 0.0
    waiting: RequestQueue = field(default_factory=RequestQueue)
    running: dict[int, Request] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        """Whether it wants anything."""
        return bool(self.running) or len(self.waiting) > 0

    @property
    def turn(self) -> tuple[float, float]:
        """Which of two tenants goes first that are level: the one that asks for less."""
        return (len(self.running) + len(self.waiting)) / self.weight, self.served

    def prompts(self) -> list[Request]:
        """Those that run and do not generate yet, the best one last."""
        prompts = [request for request in self.running.values() if not request.is_generating]
        return sorted(prompts, key=by_priority, reverse=True)

    def share(self, slots: float) -> float:
        """Slots it is entitled to, at least one, if there are `slots` per unit of weight."""
        return max(1.0, slots * self.weight)

    def charge(self, cost: float) -> None:
        """Count what was computed."""
        self.served += cost / self.weight
