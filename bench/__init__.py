"""Benchmarks: a light load generator and side-by-side comparison of servers."""
