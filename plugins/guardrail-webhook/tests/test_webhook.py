from __future__ import annotations

import hmac
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from support.policy_servers import PolicyServer, policy_server

from inferflux_core.errors import ConfigError
from inferflux_core.guardrails import Blocked, Direction, GuardrailContext, Reviewer
from inferflux_core.guardrails.reviewing import ReviewError
from inferflux_guardrail_webhook.config import WebhookConfig
from inferflux_guardrail_webhook.plugin import inferflux_guardrails
from inferflux_guardrail_webhook.reviewer import SIGNATURE, WebhookReviewer

pytestmark = pytest.mark.anyio

SECRET = "a secret of sixteen"


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    with policy_server() as running:
        running.says({"action": "allow"})
        yield running


@asynccontextmanager
async def asking(server: PolicyServer, **options: Any) -> AsyncIterator[Any]:
    config = WebhookConfig(endpoint=server.url, **{"timeout": 5.0, **options})
    reviewer = WebhookReviewer(config, lambda: 1000.0)

    async def outcome(text: str = "hello", request: str = "r-1") -> str:
        flags: list[str] = []
        context = GuardrailContext(request, "acme", "tiny", Direction.OUTPUT, flags.append)
        try:
            await reviewer.review(context, text)
        except Blocked as verdict:
            return f"blocked: {verdict.rule}"
        except ReviewError as error:
            return f"failed: {error}"
        return ",".join(["allowed", *flags])

    try:
        yield outcome
    finally:
        await reviewer.close()


def test_it_registers_itself() -> None:
    (spec,) = inferflux_guardrails()
    config = msgspec.convert({"endpoint": "https://a.example/"}, spec.config_type)
    reviewer = spec.factory(config)
    assert spec.name == "webhook"
    assert isinstance(reviewer, Reviewer)
    assert reviewer.directions == set(Direction)
    assert reviewer.piece is None


def test_registration_does_not_load_the_client() -> None:
    program = "import inferflux_guardrail_webhook.plugin, sys; print('httpx2' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert ended.stdout.strip() == b"False"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"action": "allow"}, "allowed"),
        ({"action": "allow", "category": "x"}, "allowed"),
        ({"action": "flag", "category": "rude"}, "allowed,webhook.rude"),
        ({"action": "flag"}, "allowed,webhook"),
        ({"action": "block", "category": "tone.rude"}, "blocked: webhook.tone.rude"),
        ({"action": "block", "category": "It says swordfish"}, "blocked: webhook"),
        ({"action": "block", "category": ["x"]}, "blocked: webhook"),
    ],
)
async def test_answers_in_our_format(server: PolicyServer, answer: Any, expected: str) -> None:
    server.says(answer)
    async with asking(server) as outcome:
        assert await outcome() == expected
    assert server.questions == [
        {
            "direction": "output",
            "tenant": "acme",
            "model": "tiny",
            "text": "hello",
            "request_id": "r-1",
        }
    ]


def results(*flagged: Any, **categories: Any) -> dict[str, Any]:
    return {"results": [{"flagged": value, "categories": categories} for value in flagged]}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (results(False, hate=False), "allowed"),
        (results(True, hate=True, violence=False), "blocked: webhook.hate"),
        (results(True, **{"hate/threatening": True}), "blocked: webhook.hate.threatening"),
        (results(True, **{"It says swordfish": True}), "blocked: webhook"),
        (results(True), "blocked: webhook"),
        (results(False, True, hate=True), "blocked: webhook.hate"),
        ({"results": [{"flagged": True, "categories": ["hate"]}]}, "blocked: webhook"),
    ],
)
async def test_answers_of_a_moderation_api(
    server: PolicyServer, answer: Any, expected: str
) -> None:
    server.says(answer)
    async with asking(server, format="openai-moderation", model="omni") as outcome:
        assert await outcome() == expected
    assert server.questions == [{"input": "hello", "model": "omni"}]


@pytest.mark.parametrize(
    ("form", "answer", "status", "expected"),
    [
        ("inferflux", {"action": "deny"}, 200, "none of allow, block and flag"),
        ("inferflux", {"action": True}, 200, "none of allow, block and flag"),
        ("inferflux", {}, 200, "none of allow, block and flag"),
        ("inferflux", results(False), 200, "none of allow, block and flag"),
        ("openai-moderation", {"action": "allow"}, 200, "no `results`"),
        ("openai-moderation", {"results": []}, 200, "no `results`"),
        ("openai-moderation", {"results": {"flagged": False}}, 200, "no `results`"),
        ("openai-moderation", {"results": [None]}, 200, "neither true nor false"),
        ("openai-moderation", results(0), 200, "neither true nor false"),
        ("openai-moderation", results(True, "no"), 200, "neither true nor false"),
        ("inferflux", b"", 200, "not a JSON object"),
        ("inferflux", b"[" * 60_000, 200, "not a JSON object"),
        ("inferflux", b" " * 70_000 + b'{"action": "allow"}', 200, "exceeds 65536 bytes"),
        ("inferflux", {"action": "allow"}, 202, "status 202"),
        ("inferflux", {"action": "allow"}, 301, "status 301"),
        ("inferflux", {"action": "allow"}, 307, "status 307"),
        ("inferflux", {"action": "allow"}, 503, "status 503"),
    ],
)
async def test_anything_else_is_no_verdict(
    server: PolicyServer, form: Any, answer: Any, status: int, expected: str
) -> None:
    server.says(answer, status)
    async with asking(server, format=form) as outcome:
        assert expected in await outcome()
        asked = len(server.questions)
        server.says({"action": "allow", **results(False)})
        assert await outcome() == "allowed", "a failure is not remembered"
    assert (asked, len(server.questions)) == (1, 2), "nobody was redirected"


async def test_verdicts_hold_whichever_request_asks(server: PolicyServer) -> None:
    server.says({"action": "flag"})
    async with asking(server) as outcome:
        for request in ("r-1", "r-2"):
            assert await outcome(request=request) == "allowed,webhook"
        await outcome("another text")
    assert len(server.questions) == 2


async def test_a_server_that_hangs_has_so_much_time(server: PolicyServer) -> None:
    server.hangs()
    async with asking(server, timeout=0.05) as outcome:
        assert await outcome() == "failed: no answer of the webhook within 0.05 seconds"


async def test_after_five_failures_it_is_left_alone(server: PolicyServer) -> None:
    server.says({}, 500)
    async with asking(server) as outcome:
        told = [await outcome(str(number)) for number in range(8)]
    assert len(server.questions) == 5
    assert "asked again soon" in told[-1]


async def test_a_question_is_signed_and_has_its_headers(server: PolicyServer) -> None:
    headers = {"X-Team": "seven"}
    async with asking(server, secret=SECRET, api_key="k-1", headers=headers) as outcome:
        assert await outcome("é\n") == "allowed"
    ((body,), (heard,)) = server.bodies, server.headers
    assert heard[SIGNATURE] == "sha256=" + hmac.new(SECRET.encode(), body, "sha256").hexdigest()
    assert heard["authorization"] == "Bearer k-1"
    assert heard["x-team"] == "seven"
    assert heard["accept-encoding"] == "identity"


def test_secrets_are_in_no_representation() -> None:
    config = WebhookConfig(
        endpoint="https://a.example", secret=SECRET, api_key="k-1234", headers={"x-a": "h-1234"}
    )
    assert repr(config) == "WebhookConfig(endpoint='https://a.example', format='inferflux')"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"endpoint": "http://hooks.example/"}, "endpoint is not acceptable"),
        ({"endpoint": "http://169.254.169.254/"}, "endpoint is not acceptable"),
        ({"endpoint": "http://127.0.0.1@hooks.example/"}, "endpoint is not acceptable"),
        ({"endpoint": "file:///etc/passwd", "allow_http": True}, "endpoint is not acceptable"),
        ({"endpoint": "https://a.example", "model": "m"}, "no effect"),
        ({"endpoint": "https://a.example", "headers": {"Authorization": "x"}}, "api_key"),
        ({"endpoint": "https://a.example", "headers": {"HOST": "x"}}, "host"),
        ({"endpoint": "https://a.example", "headers": {SIGNATURE: "x"}}, SIGNATURE),
    ],
)
def test_what_cannot_be_right_stops_the_start(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        WebhookReviewer(WebhookConfig(**options))


def test_texts_travel_in_the_clear_where_that_is_wanted() -> None:
    assert WebhookReviewer(WebhookConfig(endpoint="http://hooks.example/", allow_http=True))


@pytest.mark.parametrize(
    "options",
    [
        {"secret": "short"},
        {"api_key": ""},
        {"api_key": "a\r\nx: y"},
        {"headers": {"x": "a\nb"}},
        {"headers": {"x y": "a"}},
        {"headers": {"": "a"}},
        {"format": "azure"},
        {"action": "mask"},
        {"timeout": 60},
    ],
)
def test_unknown_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"endpoint": "https://a.example", **options}, WebhookConfig)
