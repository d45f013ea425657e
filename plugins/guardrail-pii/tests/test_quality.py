"""How much of a generated, labelled set of texts is found, and how much of what is found is right.

`-s` prints the figures for each kind; `PII_TEXTS` says how many texts of each there shall be.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

import phonenumbers
import pytest
from faker import Faker
from stdnum import get_cc_module

from inferflux_core.guardrails import Direction, GuardrailContext
from inferflux_guardrail_pii.config import ENTITIES, Entity, PIIConfig
from inferflux_guardrail_pii.guardrail import PIIGuardrail

TEXTS = int(os.environ.get("PII_TEXTS", "150"))
CONTEXT = GuardrailContext("r-1", "default", "stub", Direction.PROMPT)
GUARDRAIL = PIIGuardrail(PIIConfig())
MASK = re.compile(rf"\[({'|'.join(entity.upper() for entity in ENTITIES)})\]")
FRAMES = (
    "{}",
    "Please use {} from now on.",
    "It is {}, isn't it?",
    "({})",
    'He wrote "{}" in the margin;',
    "ref: {}\nnext line",
    "{} and nothing else",
)
FIGURES: dict[Entity, tuple[float, float]] = {
    "email": (1.0, 1.0),
    "iban": (1.0, 1.0),
    # A Swedish one in brackets may be a phone number; and people are born before today, whenever that is.
    "national_id": (0.97, 0.97),
    "card": (0.97, 0.97),
    "ssn": (1.0, 0.99),
    "ip": (1.0, 0.99),
    "phone": (0.97, 0.97),
}
"""Precision and recall, at least."""

NATIONAL = {
    "es_ES": ("es", "dni"),
    "it_IT": ("it", "codicefiscale"),
    "fr_FR": ("fr", "nir"),
    "pl_PL": ("pl", "pesel"),
    "pt_BR": ("br", "cpf"),
    "fi_FI": ("fi", "hetu"),
    "sv_SE": ("se", "personnummer"),
    "zh_CN": ("cn", "ric"),
}
LOCALES = ("en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pl_PL", "pt_BR")


class Maker:
    """Draws values of each kind, and things that look like them."""

    def __init__(self) -> None:
        self.random = random.Random(2026)
        self.fakers = {name: Faker(name) for name in sorted({*LOCALES, *NATIONAL})}
        for number, fake in enumerate(self.fakers.values()):
            fake.seed_instance(number)
        self.us = self.fakers["en_US"]

    def any(self) -> Faker:
        return self.fakers[self.random.choice(LOCALES)]

    def email(self) -> str:
        fake = self.any()
        return self.random.choice((fake.email, fake.company_email, fake.free_email))()

    def iban(self) -> str:
        number = self.any().iban()
        groups = " ".join(number[at : at + 4] for at in range(0, len(number), 4))
        return self.random.choice((number, groups))

    def national_id(self) -> str:
        locale, module = self.random.choice(list(NATIONAL.items()))
        fake = self.fakers[locale]
        draw = {"es_ES": "nif", "pt_BR": "cpf"}.get(locale, "ssn")
        return drawn(getattr(fake, draw), get_cc_module(*module).is_valid)

    def card(self) -> str:
        kind = self.random.choice(("visa", "mastercard", "amex", "discover"))
        number = self.us.credit_card_number(kind)
        separator = self.random.choice(("", " ", "-"))
        cuts = (0, 4, 10, 15) if kind == "amex" else (0, 4, 8, 12, 16)
        return separator.join(number[start:end] for start, end in pairwise(cuts))

    def ssn(self) -> str:
        return drawn(self.us.ssn, get_cc_module("us", "ssn").is_valid)

    def ip(self) -> str:
        return self.random.choice((self.us.ipv4, self.us.ipv6))()

    def phone(self) -> str:
        """Of the numbering plans themselves: Faker invents numbers that nobody can have."""
        region = self.random.choice(("US", "GB", "DE", "FR", "ES", "NL"))
        kinds = (
            phonenumbers.PhoneNumberFormat.INTERNATIONAL,
            phonenumbers.PhoneNumberFormat.E164,
            phonenumbers.PhoneNumberFormat.NATIONAL,
        )
        kind = self.random.choice(kinds if region == "US" else kinds[:2])
        example = phonenumbers.example_number(region)
        while True:
            digits = str(example.national_number)
            tail = "".join(self.random.choice("0123456789") for _ in range(4))
            number = phonenumbers.parse(digits[:-4] + tail, region)
            if phonenumbers.is_valid_number(number):
                return phonenumbers.format_number(number, kind)

    def harmless(self) -> str:
        fake, draw = self.us, self.random
        return draw.choice(
            (
                fake.sentence,
                fake.address,
                fake.isbn13,
                fake.uuid4,
                fake.date,
                fake.iso8601,
                fake.license_plate,
                fake.file_path,
                fake.mac_address,
                fake.company,
                fake.md5,
                lambda: f"${draw.randint(1, 10**7):,}.{draw.randint(0, 99):02}",
                lambda: f"v{draw.randint(0, 20)}.{draw.randint(0, 99)}.{draw.randint(0, 999)}",
                lambda: f"order {draw.randint(10**5, 10**9)}",
                lambda: f"{draw.uniform(-90, 90):.6f}, {draw.uniform(-180, 180):.6f}",
                lambda: f"{draw.randint(1900, 2030)}-{draw.randint(1900, 2030)}",
                lambda: f"@{fake.user_name()} x{draw.randint(1, 99)}",
            )
        )()


def drawn(draw: Callable[[], str], is_valid: Callable[[str], bool]) -> str:
    return next(value for value in iter(draw, None) if is_valid(value))


def labelled() -> Iterator[tuple[str, str, Entity | None]]:
    """Texts, what in them is personal, and of which kind it is."""
    maker = Maker()
    for entity in ENTITIES:
        for _ in range(TEXTS):
            value = getattr(maker, entity)()
            yield maker.random.choice(FRAMES).format(value), value, entity
    for _ in range(TEXTS * len(ENTITIES)):
        yield maker.random.choice(FRAMES).format(maker.harmless()), "", None


def masked(text: str) -> str:
    text_filter = GUARDRAIL.open(CONTEXT)
    return text_filter.feed(text) + text_filter.finish()


@pytest.fixture(scope="module")
def figures() -> dict[str, tuple[float, float]]:
    """Precision and recall of each kind."""
    right, wrong, missed = Counter[str](), Counter[str](), Counter[str]()
    for text, value, entity in labelled():
        found = MASK.findall(masked(text))
        expected = [entity.upper()] if entity else []
        if found == expected and (not value or value not in masked(text)):
            right.update(found)
        else:
            wrong.update(found)
            missed.update(expected)
            print(f"{entity}: {text!r} -> {found}")
    return {
        entity: (
            right[name] / max(1, right[name] + wrong[name]),
            right[name] / max(1, right[name] + missed[name]),
        )
        for entity in ENTITIES
        for name in [entity.upper()]
    }


@pytest.mark.parametrize("entity", ENTITIES)
def test_precision_and_recall(figures: dict[str, tuple[float, float]], entity: Entity) -> None:
    precision, recall = figures[entity]
    print(f"{entity}: precision {precision:.4f}, recall {recall:.4f} ({TEXTS} texts)")
    wanted = FIGURES[entity]
    assert precision >= wanted[0]
    assert recall >= wanted[1]
