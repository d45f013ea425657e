"""Which digits are a phone number."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final

import phonenumbers

from inferflux_core.errors import ConfigError

__all__ = ["phone_validator"]

_INTERNATIONAL: Final = re.compile(r"\(?(?:\+|00)")
_MAX_GROUPS: Final = 7
"""Groups of digits in one number, as in `+33 6 12 34 56 78`."""


def phone_validator(regions: Sequence[str]) -> Callable[[str], bool]:
    """Make a check for numbers with a country code, or as written within one of `regions`.

    Args:
        regions: ISO 3166 country codes.

    Raises:
        ConfigError: a region does not exist.
    """
    for region in regions:
        if region not in phonenumbers.SUPPORTED_REGIONS:
            raise ConfigError(
                f"guardrail pii: unknown phone region {region!r}",
                hint="Use two-letter country codes in capitals, such as US or DE.",
            )

    def valid(candidate: str) -> bool:
        groups = re.findall("[0-9]+", candidate)
        if len(groups) > _MAX_GROUPS:
            return False
        if international := _INTERNATIONAL.match(candidate):
            return _parse("+" + candidate[international.end() :], None) is not None
        return any(_is_national(groups, region) for region in regions)

    return valid


def _parse(candidate: str, region: str | None) -> phonenumbers.PhoneNumber | None:
    try:
        number = phonenumbers.parse(candidate, region)
    except phonenumbers.NumberParseException:
        return None
    return number if phonenumbers.is_valid_number(number) else None


def _is_national(groups: Sequence[str], region: str) -> bool:
    """Whether it is a number of `region`, its digits grouped as is usual there or not at all.

    Without the look at the groups many dates would be phone numbers: `2024-01-15 10`.
    """
    digits = "".join(groups)
    if len(digits) not in _lengths(region):
        return False
    number = _parse(digits, region)
    if number is None:
        return False
    usual = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
    usual_gaps = _gaps(re.findall("[0-9]+", usual))
    length = len(phonenumbers.national_significant_number(number))
    return all(gap in usual_gaps or gap >= length for gap in _gaps(groups))


def _gaps(groups: Sequence[str]) -> set[int]:
    """Where groups of digits part, counted in digits from the end."""
    return set(accumulate(map(len, reversed(groups[1:]))))


@lru_cache(maxsize=512)
def _lengths(region: str) -> frozenset[int]:
    """How many digits a number of `region` may have; spares most candidates the costly parser."""
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(region)
    if metadata is None or metadata.general_desc is None:
        return frozenset()
    lengths = metadata.general_desc.possible_length
    prefix = len(metadata.national_prefix or "")
    return frozenset(length + extra for length in lengths for extra in (0, prefix))
