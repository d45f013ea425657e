"""Scheduling policies that ship with the core."""
