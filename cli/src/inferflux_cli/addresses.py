"""Which addresses a secret may travel to."""

from __future__ import annotations

from ipaddress import ip_address

import httpx2

__all__ = ["is_loopback", "is_private_way"]


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_private_way(text: str) -> bool:
    """Return whether nobody listens in on the way to a URL: https, or http on this machine."""
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        return False
    if not url.host or url.userinfo or url.fragment:
        return False
    return url.scheme == "https" or (url.scheme == "http" and is_loopback(url.host))
