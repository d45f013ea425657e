"""Backends that ship with the core because they need no library and no device."""
