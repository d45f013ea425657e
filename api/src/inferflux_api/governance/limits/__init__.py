"""Limits per tenant, key and model: reserved before a request is served, settled after it."""

from __future__ import annotations

from inferflux_api.governance.limits.estimate import call_estimate, generation_estimate
from inferflux_api.governance.limits.limiter import Limiter, Reservation

__all__ = ["Limiter", "Reservation", "call_estimate", "generation_estimate"]
