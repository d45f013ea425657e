"""Points in time, as people write and read them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Final

import rich_click as click

__all__ = ["expiry", "moment", "shown"]

_AGE: Final = re.compile(r"([0-9]{1,9})([smhdwy])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604_800, "y": 31_536_000}
_EXAMPLES: Final = "a date such as 2027-01-01 (UTC), nor a time span such as 90m or 30d"


def moment(text: str) -> float:
    """Read a date, or how long ago; return Unix time in seconds.

    Raises:
        click.BadParameter: it is neither.
    """
    seconds = _span(text)
    return _date(text) if seconds is None else time.time() - seconds


def expiry(text: str) -> dict[str, float]:
    """Read a date to come, or in how long; return the field of a request that says so.

    Raises:
        click.BadParameter: it is neither.
    """
    if seconds := _span(text):
        # By the clock of the server, whatever ours says.
        return {"expires_in": seconds}
    found = _date(text)
    if found <= time.time():
        raise click.BadParameter(f"{text!r} is past.")
    return {"expires_at": found}


def shown(value: object) -> str | None:
    """Unix time in seconds, in the time zone here; None for anything else."""
    if not isinstance(value, int | float):
        return None
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(value))
    except (OverflowError, ValueError, OSError):
        return str(value)


def _span(text: str) -> int | None:
    match = _AGE.fullmatch(text)
    return int(match[1]) * _UNITS[match[2]] if match else None


def _date(text: str) -> float:
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither {_EXAMPLES}.") from None
    return (given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp()
