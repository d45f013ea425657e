"""Guessing several tokens ahead, and verifying them in one pass."""
