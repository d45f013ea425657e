"""What an operator can set under `guardrails.options.opa`."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from inferflux_core.errors import ConfigError

__all__ = ["Check", "OPAConfig", "check_endpoint"]

Check = Literal["prompt", "output"]


class OPAConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom to ask, and about what.

    Attributes:
        endpoint: URL of the decision; the key `guardrails.opa_endpoint`.
        api: what is spoken there: OPA's data API, or AuthZEN's evaluation.
        checks: the texts to ask about.
        piece: characters of an answer that are held back until they are judged, together with all that
            went before; null holds back the whole answer.
        timeout: seconds for one question.
        cache_seconds: for which an answer holds; 0 asks every time.
        max_bytes: of a question; a longer text counts as a failure.
        action: `block` is all that a policy server can do.
    """

    endpoint: str
    api: Literal["data", "authzen"] = "data"
    checks: Annotated[list[Check], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: ["prompt", "output"]
    )
    piece: Annotated[int, Meta(ge=1)] | None = None
    timeout: Annotated[float, Meta(gt=0, le=25)] = 0.25
    cache_seconds: Annotated[float, Meta(ge=0, le=3600)] = 5.0
    max_bytes: Annotated[int, Meta(ge=1024)] = 1024 * 1024
    action: Literal["block"] = "block"


def check_endpoint(url: str) -> None:
    """Refuse addresses to which prompts would travel in the clear, or not at all.

    Raises:
        ConfigError: it is no https URL, nor http on the loopback interface.
    """
    try:
        parts = urlsplit(url)
        usable = parts.port != 0 and bool(parts.hostname)
    except ValueError:
        usable = False
    else:
        usable = usable and (parts.scheme == "https" or _is_loopback(parts.scheme, parts.hostname))
        usable = usable and not (parts.fragment or parts.username or parts.password)
    if not usable:
        raise ConfigError(
            f"guardrails.opa_endpoint is not acceptable: {url!r}",
            hint="Give the https URL of a decision, such as https://opa.example/v1/data/inferflux/allow; "
            "http is accepted for 127.0.0.1 and localhost.",
        )


def _is_loopback(scheme: str, host: str | None) -> bool:
    try:
        local = ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        local = host == "localhost"
    return scheme == "http" and local
