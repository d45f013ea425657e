from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.policy_servers import PolicyServer

from inferflux_core.guardrails import Blocked, Direction, GuardrailContext
from inferflux_core.guardrails.reviewing import ReviewError
from inferflux_guardrail_opa.config import OPAConfig
from inferflux_guardrail_opa.reviewer import OPAReviewer

pytestmark = pytest.mark.anyio

CONTEXT = GuardrailContext("r-1", "acme", "tiny", Direction.PROMPT)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def reviewing(
    server: PolicyServer, clock: Clock | None = None, **options: Any
) -> AsyncIterator[OPAReviewer]:
    config = OPAConfig(endpoint=server.url, **{"timeout": 5.0, **options})
    reviewer = OPAReviewer(config, clock or Clock())
    try:
        yield reviewer
    finally:
        await reviewer.close()


async def outcome(reviewer: OPAReviewer, text: str = "hello", **changes: Any) -> str:
    context = GuardrailContext(
        **{"request_id": "r-1", "tenant": "acme", "model": "tiny", **changes},
        direction=Direction.PROMPT,
    )
    try:
        await reviewer.review(context, text)
    except Blocked as verdict:
        return f"blocked: {verdict.rule}"
    except ReviewError as error:
        return f"failed: {error}"
    return "allowed"


async def test_a_policy_in_rego_decides(server: PolicyServer) -> None:
    async with reviewing(server) as reviewer:
        assert await outcome(reviewer) == "allowed"
        assert await outcome(reviewer, "Project SwordFish") == "blocked: opa.codename"
        assert await outcome(reviewer, tenant="stranger") == "blocked: opa", "undefined is no"
    assert server.questions[0] == {
        "input": {"direction": "prompt", "tenant": "acme", "model": "tiny", "text": "hello"}
    }


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"result": True}, "allowed"),
        ({"result": False}, "blocked: opa"),
        ({"result": {"allow": True}}, "allowed"),
        ({"result": {"allow": False, "reason": "tone.rude"}}, "blocked: opa.tone.rude"),
        ({"result": {"allow": False, "reason": "It says swordfish"}}, "blocked: opa"),
        ({"result": {"allow": False, "reason": ["x"]}}, "blocked: opa"),
        ({"result": {}}, "blocked: opa"),
        ({}, "blocked: opa"),
        ({"decision": True}, "blocked: opa"),
    ],
)
async def test_answers_of_the_data_api(server: PolicyServer, answer: Any, expected: str) -> None:
    server.says(answer)
    async with reviewing(server) as reviewer:
        assert await outcome(reviewer) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"decision": True}, "allowed"),
        ({"decision": False}, "blocked: opa"),
        ({"decision": {"allow": True}}, "failed: the policy server: its decision is neither"),
        ({"decision": False, "context": {"reason": "export"}}, "blocked: opa.export"),
        ({}, "blocked: opa"),
        ({"result": True}, "blocked: opa"),
    ],
)
async def test_answers_of_authzen(server: PolicyServer, answer: Any, expected: str) -> None:
    server.says(answer)
    async with reviewing(server, api="authzen") as reviewer:
        assert (await outcome(reviewer)).removesuffix(" true nor false") == expected
    assert server.questions == [
        {
            "subject": {"type": "tenant", "id": "acme"},
            "action": {"name": "prompt"},
            "resource": {"type": "model", "id": "tiny"},
            "context": {"text": "hello"},
        }
    ]


@pytest.mark.parametrize(
    ("answer", "status", "expected"),
    [
        ({"result": 1}, 200, "neither true nor false"),
        ({"result": "true"}, 200, "neither true nor false"),
        ({"result": None}, 200, "neither true nor false"),
        ({"result": {"allow": "yes"}}, 200, "neither true nor false"),
        (b"", 200, "not a JSON object"),
        (b"[true]", 200, "not a JSON object"),
        (b'{"result": tru', 200, "not a JSON object"),
        (b'{"a":' * 100_00, 200, "not a JSON object"),
        (b" " * 70_000 + b'{"result": true}', 200, "exceeds 65536 bytes"),
        ({"result": True}, 500, "status 500"),
        ({"result": True}, 201, "status 201"),
        ({"result": True}, 307, "status 307"),
    ],
)
async def test_anything_else_is_no_verdict(
    server: PolicyServer, answer: Any, status: int, expected: str
) -> None:
    server.says(answer, status)
    async with reviewing(server) as reviewer:
        assert expected in await outcome(reviewer)
        server.says({"result": True})
        assert await outcome(reviewer) == "allowed", "a failure is not remembered"


async def test_a_server_that_hangs_has_so_much_time(server: PolicyServer) -> None:
    server.hangs()
    async with reviewing(server, timeout=0.05) as reviewer:
        assert await outcome(reviewer) == (
            "failed: no answer of the policy server within 0.05 seconds"
        )


async def test_a_server_that_is_not_there() -> None:
    nobody = PolicyServer("http://127.0.0.1:9/v1/data/a", lambda _: (200, b""))
    async with reviewing(nobody) as reviewer:
        assert (await outcome(reviewer)).startswith("failed: the policy server: ")


async def test_verdicts_hold_for_a_while_whoever_asks(server: PolicyServer) -> None:
    clock = Clock()
    async with reviewing(server, clock, cache_seconds=5) as reviewer:
        for request in ("r-1", "r-2"):
            assert await outcome(reviewer, request_id=request) == "allowed"
            assert (await outcome(reviewer, "swordfish", request_id=request)).startswith("blocked")
        assert len(server.questions) == 2
        await outcome(reviewer, tenant="default")
        assert len(server.questions) == 3, "another tenant is another question"
        clock.now += 5
        server.says({"result": False})
        assert await outcome(reviewer) == "blocked: opa"
        assert len(server.questions) == 4


async def test_nothing_is_kept_where_nothing_may_be(server: PolicyServer) -> None:
    async with reviewing(server, cache_seconds=0) as reviewer:
        await outcome(reviewer)
        await outcome(reviewer)
    assert len(server.questions) == 2


async def test_after_five_failures_it_is_left_alone(server: PolicyServer) -> None:
    clock = Clock()
    server.says({}, 500)
    async with reviewing(server, clock) as reviewer:
        for number in range(8):
            await outcome(reviewer, str(number))
        assert len(server.questions) == 5
        clock.now += 5
        await outcome(reviewer, "still bad")
        await outcome(reviewer, "not asked")
        assert len(server.questions) == 6, "one attempt in five seconds"
        clock.now += 5
        server.says({"result": True})
        assert [await outcome(reviewer, text) for text in "ab"] == ["allowed", "allowed"]


async def test_a_question_that_is_too_long_is_not_asked(server: PolicyServer) -> None:
    async with reviewing(server, max_bytes=1024) as reviewer:
        assert "max_bytes" in await outcome(reviewer, "x" * 1024)
    assert server.questions == []
