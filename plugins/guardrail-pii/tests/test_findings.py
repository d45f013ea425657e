from __future__ import annotations

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
