from __future__ import annotations

from typing import Any

import pytest

from inferflux_core.guardrails import Direction, GuardrailContext
from inferflux_guardrail_pii.config import PIIConfig
from inferflux_guardrail_pii.guardrail import PIIGuardrail

CONTEXT = GuardrailContext("r-1", "default", "stub", Direction.OUTPUT)
EVERYTHING = PIIGuardrail(PIIConfig())


def mask(text: str, guardrail: PIIGuardrail = EVERYTHING) -> str:
    text_filter = guardrail.open(CONTEXT)
    return text_filter.feed(text) + text_filter.finish()


@pytest.mark.parametrize(
    "address",
    [
        "john@example.com",
        "john.doe+tag@sub.example.co.uk",
        "o'hara_99@xn--mnchen-3ya.de",
        "josé.núñez@exämple.es",
        "A@B.IO",
        f"{'x' * 64}@example.museum",
    ],
)
def test_email_addresses(address: str) -> None:
    assert mask(f"mail <{address}>.") == "mail <[EMAIL]>."
    assert mask(f"...{address}") == "...[EMAIL]"


@pytest.mark.parametrize(
    "number",
    [
        "4111111111111111",
        "4111 1111 1111 1111",
        "5555-5555-5555-4444",
        "3782 822463 10005",
        "6011\u00a01111\u00a01111\u00a01117",
        "4111\u20111111\u20111111\u20111111",
        "2223003122003222",
        "4222222222222",
    ],
)
def test_payment_cards(number: str) -> None:
    assert mask(f"card {number}, thanks") == "card [CARD], thanks"
    assert mask(f"{number} 12/26") == "[CARD] 12/26"
    assert mask(f"1. {number}") == "1. [CARD]"


@pytest.mark.parametrize(
    "number",
    [
        "DE89370400440532013000",
        "DE89 3704 0044 0532 0130 00",
        "gb29 nwbk 6016 1331 9268 19",
        "NO9386011117947",
        "FR14-2004-1010-0505-0001-3M02-606",
        "MT84MALT011000012345MTLCAST001S",
    ],
)
def test_ibans(number: str) -> None:
    assert mask(f"to {number} please, or {number}") == "to [IBAN] please, or [IBAN]"


@pytest.mark.parametrize(
    "number", ["536-90-4399", "536 90 4399", "536\u201190\u20114399", "123-45-6780"]
)
def test_social_security_numbers(number: str) -> None:
    assert mask(f"SSN:{number}.") == "SSN:[SSN]."


@pytest.mark.parametrize(
    "number",
    [
        "85.07.30-033.28",  # BE
        "390.533.447-05",  # BR
        "360426199101010071",  # CN
        "36 574 261 809",  # DE
        "12345678Z",  # ES
        "x-2482300w",
        "131052-308T",  # FI
        "2 95 10 99 126 111 93",  # FR
        "RCCMNL83S18D969H",  # IT
        "44051401359",  # PL
        "811218-9876",  # SE
        "10000000146",  # TR
    ],
)
def test_national_ids(number: str) -> None:
    assert mask(f"id {number}, ok") == "id [NATIONAL_ID], ok"


@pytest.mark.parametrize(
    ("country", "number"),
    [("CA", "130 692 544"), ("GB", "943 476 5870"), ("IN", "2341 2341 2346"), ("NL", "111222333")],
)
def test_numbers_that_any_number_could_be_are_found_on_demand(country: Any, number: str) -> None:
    demanding = PIIGuardrail(PIIConfig(entities=["national_id"], national_ids=[country]))
    others = PIIGuardrail(PIIConfig(entities=["national_id"]))
    assert mask(f"id {number}.", demanding) == "id [NATIONAL_ID]."
    assert mask(f"id {number}.", others) == f"id {number}."


@pytest.mark.parametrize(
    "address",
    [
        "192.168.0.1",
        "8.8.8.8",
        "2001:db8::1",
        "2001:0db8:0000:0000:0000:ff00:0042:8329",
        "::1",
        "fe80::",
        "::ffff:192.0.2.128",
        "64:ff9b::192.0.2.33",
    ],
)
def test_ip_addresses(address: str) -> None:
    assert mask(f"at {address}, or http://[{address}]/") == "at [IP], or http://[[IP]]/"
    assert mask(f"{address}/16 and {address}. {address}") == "[IP]/16 and [IP]. [IP]"


def test_a_colon_after_an_address_is_punctuation() -> None:
    assert mask("2001:db8::1: unreachable") == "[IP]: unreachable"


@pytest.mark.parametrize(
    "number",
    [
        "+1 415 555 2671",
        "+14155552671",
        "(415) 555-2671",
        "415-555-2671",
        "415.555.2671",
        "1-415-555-2671",
        "4155552671",
        "+44 20 7946 0958",
        "0044 20 7946 0958",
        "+33 6 12 34 56 78",
        "+49 (30) 901820",
        "+1\u202f(415)\u00a0555\u20112671",
    ],
)
def test_phone_numbers(number: str) -> None:
    assert mask(f"call {number} now") == "call [PHONE] now"
    assert mask(f"call {number}.") == "call [PHONE]."


def test_national_numbers_of_other_countries_need_their_region() -> None:
    german = PIIGuardrail(PIIConfig(phone_regions=["DE"]))
    assert mask("Ruf 030 901820 an!") == "Ruf 030 901820 an!"
    assert mask("Ruf 030 901820 an!", german) == "Ruf [PHONE] an!"


@pytest.mark.parametrize(
    "text",
    [
        "user@localhost, @handle, a@b, x@y.",
        "4111 1111 1111 1112",  # fails its check digit
        "9111 1111 1111 1111 and 0000 0000 0000 0000",  # nobody issues these
        "DE88370400440532013000",  # fails its check digits
        "ZZ89370400440532013000 DE8937040044053201300",  # no such country; too short
        "078-05-1120, 666-12-3456, 000-12-3456, 123-45-0000",  # never issued
        "536904399",  # any nine digits
        "12345678A, RCCMNL83S18D969A, 44051401358",  # fail their check digits
        "390.533.447-06, 85.07.30-033.29, 131052-308U, 811218-9875",
        "256.1.1.1, version 1.2.3.4.5, 1.2.3",
        "std::vector, 12:30:45, dead::beef, 00:1a:2b:3c:4d:5e",
        "555-123-4567 +1 415 555",  # no such area code; too short
        "2024-01-15 10:30:00, 2010-2015 2020",
        "pi 3.141592653, e 2.718281828, sqrt 2.236067977",
        "1700000000 and 12345678901234567890123",
        "x4155552671 4155552671x",
        "In 2026, 1,000,000 people paid $19.99 (3 x 4 = 12).",
    ],
)
def test_innocent_text_passes(text: str) -> None:
    assert mask(text) == text


def test_a_list_is_masked_item_by_item() -> None:
    text = "a@x.com,b@y.org;4111111111111111 5555555555554444\n415-555-2671 415-555-2672"
    assert mask(text) == "[EMAIL],[EMAIL];[CARD] [CARD]\n[PHONE] [PHONE]"


def test_only_the_chosen_kinds_are_looked_for() -> None:
    guardrail = PIIGuardrail(PIIConfig(entities=["email"]))
    assert mask("a@x.com 4111111111111111", guardrail) == "[EMAIL] 4111111111111111"


def test_allowed_texts_pass() -> None:
    guardrail = PIIGuardrail(PIIConfig(allow=["Help@Example.com", "127.0.0.1"]))
    text = "help@example.com at 127.0.0.1, not me@example.com at 127.0.0.2"
    assert mask(text, guardrail) == "help@example.com at 127.0.0.1, not [EMAIL] at [IP]"


def test_what_is_flagged_passes_and_is_told_once() -> None:
    flagged: list[str] = []
    context = GuardrailContext("r-1", "default", "stub", Direction.OUTPUT, flagged.append)
    guardrail = PIIGuardrail(PIIConfig(actions={"email": "flag", "ip": "flag"}))
    text_filter = guardrail.open(context)
    text = "a@example.com, b@example.com, 4111111111111111"
    released = text_filter.feed(text) + text_filter.finish()
    assert released == "a@example.com, b@example.com, [CARD]"
    assert flagged == ["pii.email"]
