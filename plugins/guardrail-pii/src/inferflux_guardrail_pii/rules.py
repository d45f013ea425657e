"""The kinds of personal data, and how each looks."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from stdnum import iban, luhn, numdb
from stdnum.us import ssn

from inferflux_guardrail_pii.config import ENTITIES, Country, Entity
from inferflux_guardrail_pii.national import national_id_rules
from inferflux_guardrail_pii.phone import phone_validator
from inferflux_guardrail_pii.rule import Rule
from inferflux_guardrail_pii.writing import (
    DASHES,
    NO_WORD_AFTER,
    NO_WORD_BEFORE,
    PLAIN,
    SEPARATOR,
    SPACES,
)

__all__ = ["build_rules"]

_LETTER: Final = r"A-Za-zÀ-ÖØ-öø-ɏ"
_LOCAL: Final = rf"[{_LETTER}0-9._%+'&-]"


def build_rules(
    entities: Sequence[Entity], phone_regions: Sequence[str], countries: Sequence[Country]
) -> tuple[Rule, ...]:
    """The rules for `entities`, in the order in which they take precedence at one place.

    Args:
        entities: what to look for.
        phone_regions: countries whose phone numbers are recognised without a country code.
        countries: whose national ids to look for.

    Raises:
        ConfigError: a phone region does not exist.
    """
    makers: dict[Entity, Callable[[], list[Rule]]] = {
        "email": lambda: [_email()],
        "iban": lambda: [_iban()],
        "national_id": lambda: national_id_rules(countries),
        "card": lambda: [_card()],
        "ssn": lambda: [_ssn()],
        "ip": lambda: [_ip()],
        "phone": lambda: [_phone(phone_regions)],
    }
    return tuple(rule for entity in ENTITIES if entity in entities for rule in makers[entity]())


def _email() -> Rule:
    """RFC 5321 addresses with Latin letters, accents included; at most six dots in the domain."""
    first = rf"(?<![{_LETTER}0-9_])[{_LETTER}0-9_]"
    label = rf"[{_LETTER}0-9-]"
    return Rule(
        entity="email",
        candidate=re.compile(
            rf"{first}{_LOCAL}{{0,63}}@(?:{label}{{1,63}}\.){{1,6}}[{_LETTER}]{{2,24}}"
        ),
        tail=re.compile(rf"{first}{_LOCAL}*(?:@[{_LETTER}0-9.-]*)?\Z"),
        reach=64 + 1 + 6 * 64 + 24,
        valid=lambda _: True,
    )


def _iban() -> Rule:
    """ISO 13616 account numbers, with or without separators."""
    return Rule(
        entity="iban",
        candidate=re.compile(
            rf"{NO_WORD_BEFORE}[A-Za-z]{{2}}[0-9]{{2}}"
            rf"(?:{SEPARATOR}?[0-9A-Za-z]){{11,30}}{NO_WORD_AFTER}"
        ),
        tail=re.compile(
            rf"{NO_WORD_BEFORE}(?:[A-Za-z]{{1,2}}|[A-Za-z]{{2}}[0-9]"
            rf"|[A-Za-z]{{2}}[0-9]{{2}}[0-9A-Za-z{SPACES}{DASHES}]*)\Z"
        ),
        reach=4 + 30 * 2 + 1,
        valid=_is_iban,
    )


def _is_iban(candidate: str) -> bool:
    number = re.sub(SEPARATOR, "", candidate).upper()
    return len(number) == _iban_length(number[:2]) and iban.is_valid(number, check_country=False)


@lru_cache(maxsize=1024)
def _iban_length(country: str) -> int:
    """Characters in an account number of that country; 0 if it has none."""
    _, properties = numdb.get("iban").info(country)[0]
    fields = re.findall(r"[0-9]+", properties.get("bban", ""))
    return 4 + sum(map(int, fields)) if fields else 0


def _card() -> Rule:
    """Payment cards (ISO/IEC 7812) of the large networks, which begin with 2 to 6."""
    return Rule(
        entity="card",
        candidate=re.compile(
            rf"{NO_WORD_BEFORE}[2-6][0-9]{{3}}(?:{SEPARATOR}?[0-9]){{9,15}}{NO_WORD_AFTER}"
        ),
        tail=re.compile(
            rf"{NO_WORD_BEFORE}[2-6](?:[0-9]{{0,2}}|[0-9]{{3}}[0-9{SPACES}{DASHES}]*)\Z"
        ),
        reach=4 + 15 * 2 + 1,
        valid=_is_card,
    )


def _is_card(candidate: str) -> bool:
    number = re.sub(SEPARATOR, "", candidate)
    return len(number) >= 13 and luhn.is_valid(number)


def _ssn() -> Rule:
    """US social security numbers, written in three groups."""
    return Rule(
        entity="ssn",
        candidate=re.compile(
            rf"{NO_WORD_BEFORE}[0-9]{{3}}{SEPARATOR}[0-9]{{2}}{SEPARATOR}[0-9]{{4}}"
            rf"{NO_WORD_AFTER}"
        ),
        tail=re.compile(rf"{NO_WORD_BEFORE}(?:[0-9]{{1,2}}|[0-9]{{3}}[0-9{SPACES}{DASHES}]*)\Z"),
        reach=11 + 1,
        valid=lambda candidate: ssn.is_valid(candidate.translate(PLAIN).replace(" ", "-")),
    )


def _ip() -> Rule:
    """IPv4 and IPv6 addresses; those of version 6 with a digit, as `dead::beef` may be a path."""
    four = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
    six = rf"(?:[0-9A-Fa-f]{{0,4}}:){{2,8}}(?:{four}|[0-9A-Fa-f]{{0,4}})"
    return Rule(
        entity="ip",
        # An address of version 4 is no part of a longer dotted number.
        candidate=re.compile(
            rf"{NO_WORD_BEFORE}(?:{six}{NO_WORD_AFTER}"
            rf"|(?<!\.){four}(?![0-9A-Za-z]|\.[0-9]))"
        ),
        tail=re.compile(
            rf"{NO_WORD_BEFORE}(?:[0-9A-Fa-f]{{1,4}}|[0-9A-Fa-f]{{0,4}}:[0-9A-Fa-f:.]*"
            rf"|[0-9]{{1,3}}\.[0-9.]*)\Z"
        ),
        reach=8 * 5 + 15 + 2,
        valid=_is_ip,
    )


def _is_ip(candidate: str) -> bool:
    try:
        ipaddress.ip_address(candidate)
    except ValueError:
        return False
    return any(char.isdigit() for char in candidate)


def _phone(regions: Sequence[str]) -> Rule:
    """Phone numbers with a country code, or as written within one of `regions`."""
    is_phone = phone_validator(regions)
    punctuation = rf"{SPACES}().\/{DASHES}"
    return Rule(
        entity="phone",
        candidate=re.compile(
            rf"{NO_WORD_BEFORE}[+(]{{0,2}}[0-9](?:[{punctuation}]{{0,3}}[0-9]){{6,14}}"
            rf"{NO_WORD_AFTER}"
        ),
        tail=re.compile(rf"{NO_WORD_BEFORE}(?:[+(]{{1,2}}|[+(]{{0,2}}[0-9][0-9{punctuation}]*)\Z"),
        reach=2 + 1 + 14 * 4 + 1,
        valid=lambda candidate: is_phone(candidate.translate(PLAIN)),
    )
