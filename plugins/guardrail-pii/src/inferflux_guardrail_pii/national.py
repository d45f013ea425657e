"""Numbers by which states know people, where check digits or dates tell them from other numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from stdnum.be import nn
from stdnum.br import cpf
from stdnum.ca import sin
from stdnum.cn import ric
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.nl import bsn
from stdnum.pl import pesel
from stdnum.se import personnummer
from stdnum.tr import tckimlik

from inferflux_guardrail_pii.config import Country
from inferflux_guardrail_pii.rule import Rule
from inferflux_guardrail_pii.writing import NO_WORD_AFTER, NO_WORD_BEFORE, PLAIN, SPACES

__all__ = ["national_id_rules"]

_GAP: Final = rf"[{SPACES}]?"
_OMOCODE: Final = "[0-9LMNPQRSTUVlmnpqrstuv]"


@dataclass(frozen=True, slots=True)
class _Form:
    """How a number is written.

    Attributes:
        pattern: of the whole.
        begins: what the first character may be.
        goes_on: what any other may be, for a character class.
        length: at most.
        valid: whether the check digits, and the date if there is one, are right.
    """

    pattern: str
    begins: str
    goes_on: str
    length: int
    valid: Callable[[str], bool]


_DIGITS: Final = "[0-9]"
_FORMS: Final[dict[Country, _Form]] = {
    "BE": _Form(
        r"[0-9]{2}\.[0-9]{2}\.[0-9]{2}-[0-9]{3}\.[0-9]{2}", _DIGITS, "0-9.-", 15, nn.is_valid
    ),
    "BR": _Form(r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}", _DIGITS, "0-9.-", 14, cpf.is_valid),
    "CA": _Form(
        rf"[1-9][0-9]{{2}}[{SPACES}-][0-9]{{3}}[{SPACES}-][0-9]{{3}}",
        "[1-9]",
        rf"0-9{SPACES}-",
        11,
        sin.is_valid,
    ),
    "CN": _Form(r"[1-9][0-9]{16}[0-9Xx]", "[1-9]", "0-9Xx", 18, ric.is_valid),
    "DE": _Form(
        rf"[1-9][0-9]{_GAP}[0-9]{{3}}{_GAP}[0-9]{{3}}{_GAP}[0-9]{{3}}",
        "[1-9]",
        rf"0-9{SPACES}",
        14,
        idnr.is_valid,
    ),
    "ES": _Form(
        r"(?:[0-9]{8}|[XYZxyz]-?[0-9]{7})-?[A-Za-z]",
        "[0-9XYZxyz]",
        "0-9A-Za-z-",
        11,
        lambda number: dni.is_valid(number) or nie.is_valid(number),
    ),
    "FI": _Form(
        r"[0-9]{6}[-+A-FU-Ya-fu-y][0-9]{3}[0-9A-Ya-y]", _DIGITS, "0-9A-Za-z+-", 11, hetu.is_valid
    ),
    "FR": _Form(
        rf"[12]{_GAP}[0-9]{{2}}{_GAP}[0-9]{{2}}{_GAP}[0-9][0-9ABab]{_GAP}[0-9]{{3}}{_GAP}[0-9]{{3}}"
        rf"{_GAP}[0-9]{{2}}",
        "[12]",
        rf"0-9ABab{SPACES}",
        21,
        nir.is_valid,
    ),
    "GB": _Form(
        rf"[0-9]{{3}}{_GAP}[0-9]{{3}}{_GAP}[0-9]{{4}}", _DIGITS, rf"0-9{SPACES}", 12, nhs.is_valid
    ),
    "IN": _Form(
        rf"[2-9][0-9]{{3}}{_GAP}[0-9]{{4}}{_GAP}[0-9]{{4}}",
        "[2-9]",
        rf"0-9{SPACES}",
        14,
        aadhaar.is_valid,
    ),
    "IT": _Form(
        rf"[A-Za-z]{{6}}{_OMOCODE}{{2}}[A-Za-z]{_OMOCODE}{{2}}[A-Za-z]{_OMOCODE}{{3}}[A-Za-z]",
        "[A-Za-z]",
        "0-9A-Za-z",
        16,
        codicefiscale.is_valid,
    ),
    "NL": _Form("[0-9]{9}", _DIGITS, "0-9", 9, bsn.is_valid),
    "PL": _Form("[0-9]{11}", _DIGITS, "0-9", 11, pesel.is_valid),
    "SE": _Form("(?:[0-9]{2})?[0-9]{6}[-+][0-9]{4}", _DIGITS, "0-9+-", 13, personnummer.is_valid),
    "TR": _Form("[1-9][0-9]{10}", "[1-9]", "0-9", 11, tckimlik.is_valid),
}


def national_id_rules(countries: Sequence[Country]) -> list[Rule]:
    """One rule for each country.

    Args:
        countries: whose numbers to look for.
    """
    return [_rule(_FORMS[country]) for country in countries]


def _rule(form: _Form) -> Rule:
    return Rule(
        entity="national_id",
        candidate=re.compile(f"{NO_WORD_BEFORE}{form.pattern}{NO_WORD_AFTER}"),
        tail=re.compile(rf"{NO_WORD_BEFORE}{form.begins}[{form.goes_on}]{{0,{form.length - 1}}}\Z"),
        reach=form.length + 1,
        valid=lambda candidate: form.valid(candidate.translate(PLAIN)),
    )
