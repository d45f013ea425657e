"""Benchmarks: a light load generator and side-by-side comparison of servers."""

from __future__ import annotations

__all__ = ["BenchError"]


class BenchError(Exception):
    """The measurement cannot go on; the message says why."""
