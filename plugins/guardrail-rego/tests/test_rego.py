from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inferflux_core.errors import ConfigError
from inferflux_core.guardrails import Blocked, Direction, GuardrailContext, Reviewer
from inferflux_core.guardrails.reviewing import ReviewError
from inferflux_guardrail_rego.config import RegoConfig
from inferflux_guardrail_rego.plugin import inferflux_guardrails
from inferflux_guardrail_rego.reviewer import RegoReviewer

pytestmark = pytest.mark.anyio

POLICY = """
package inferflux

allow := {"allow": false, "reason": "codename"} if contains(lower(input.text), "swordfish")
else := {"allow": true} if input.tenant in {"acme", "trial"}
"""


@asynccontextmanager
async def judging(folder: Path, policy: str = POLICY, **options: Any) -> AsyncIterator[Any]:
    file = folder / "policy.rego"
    file.write_text(policy)
    config = RegoConfig(policies=[str(file)], **{"timeout": 10.0, **options})
    reviewer = RegoReviewer(config)

    async def outcome(text: str, **changes: Any) -> str:
        named = {"request_id": "r-1", "tenant": "acme", "model": "tiny", **changes}
        context = GuardrailContext(**{"direction": Direction.PROMPT, **named})
        try:
            await reviewer.review(context, text)
        except Blocked as verdict:
            return f"blocked: {verdict.rule}"
        except ReviewError as error:
            return f"failed: {error}"
        return "allowed"

    try:
        yield outcome
    finally:
        await reviewer.close()


def unless(body: str) -> str:
    """Whoever cannot tell that something is bad must not take it for good."""
    return f"package inferflux\n\nallow if not bad\n\nbad if {body}\n"


def test_it_registers_itself(tmp_path: Path) -> None:
    (spec,) = inferflux_guardrails()
    file = tmp_path / "policy.rego"
    file.write_text(POLICY)
    config = msgspec.convert({"policies": [str(file)], "checks": ["prompt"]}, spec.config_type)
    reviewer = spec.factory(config)
    assert spec.name == "rego"
    assert isinstance(reviewer, Reviewer)
    assert reviewer.directions == {Direction.PROMPT}
    assert reviewer.piece is None


def test_registration_does_not_load_the_evaluator() -> None:
    program = "import inferflux_guardrail_rego.plugin, sys; print('regopy' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert ended.stdout.strip() == b"False"


async def test_a_policy_decides_as_behind_a_server(tmp_path: Path) -> None:
    async with judging(tmp_path) as outcome:
        assert await outcome("hello") == "allowed"
        assert await outcome("Project SwordFish") == "blocked: rego.codename"
        assert await outcome("hello", tenant="stranger") == "blocked: rego", "undefined is no"


async def test_a_policy_sees_who_asks_what_of_whom(tmp_path: Path) -> None:
    policy = """
    package inferflux
    decided if { count(input) == 4; input.model == "tiny"; input.direction == "output" }
    decided := false if input.text == "trial"
    """
    async with judging(tmp_path, policy, query="data.inferflux.decided") as outcome:
        assert await outcome("hello", direction=Direction.OUTPUT) == "allowed"
        assert await outcome("hello") == "blocked: rego"
        assert await outcome("hello", direction=Direction.OUTPUT, model="x") == "blocked: rego"


async def test_data_and_another_query(tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    data.write_text('{"inferflux": {"words": ["sw\\u006frdfish"]}}')
    policy = """
    package gate
    open if not closed
    closed if { some word in data.inferflux.words; contains(input.text, word) }
    """
    options = {"data": [str(data)], "query": "data.gate.open"}
    async with judging(tmp_path, policy, **options) as outcome:
        assert await outcome("hello") == "allowed"
        assert await outcome("a swordfish") == "blocked: rego"


@pytest.mark.parametrize("before", ["\0", '"', "\\", "\n", '\\"', "é😀", '"}', "\x01", "\ufffd"])
async def test_no_character_hides_what_follows(tmp_path: Path, before: str) -> None:
    async with judging(tmp_path) as outcome:
        assert await outcome(f"a{before}swordfish") == "blocked: rego.codename"


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"`project\s+swordfish`", "project\n swordfish"),
        (r'"say \"x\""', 'say "x"'),
        (r"`a\\b`", "a\\b"),
        (r"`é\s😀`", "é 😀"),
    ],
)
async def test_patterns_mean_what_they_say(tmp_path: Path, pattern: str, text: str) -> None:
    async with judging(tmp_path, unless(f"regex.match({pattern}, input.text)")) as outcome:
        assert await outcome(text) == "blocked: rego"
        assert await outcome("fine") == "allowed"


@pytest.mark.parametrize(
    "body",
    [
        "to_number(input.text) > 3",
        'regex.match(input.text, "a")',
    ],
)
async def test_a_function_that_fails_is_not_taken_for_no(tmp_path: Path, body: str) -> None:
    trial = '\nallow if input.text == "trial"\n'
    policy = unless(f'{{ input.text != "trial"; {body} }}') + trial
    async with judging(tmp_path, policy) as outcome:
        assert (await outcome("(")).startswith("failed: the policy in Rego: ")


@pytest.mark.parametrize(
    "policy",
    [
        unless("unknown(input.text)"),
        unless('regex.match("(?i)sword", input.text)'),
        unless('http.send({"method": "get", "url": "http://127.0.0.1:9"})'),
        "package inferflux\nallow := 1",
        'package inferflux\nallow := "true"',
        'package inferflux\nallow := {"allow": "yes"}',
        "package inferflux\nallow := input.text",
        'package inferflux\nallow if input.text == "trial"\nallow := false if input.model == "trial"',
    ],
)
async def test_a_policy_that_cannot_judge_a_word_stops_the_start(
    tmp_path: Path, policy: str
) -> None:
    with pytest.raises(ConfigError, match="cannot be evaluated"):
        async with judging(tmp_path, policy):
            pass


@pytest.mark.parametrize(
    ("policy", "line"),
    [
        ("package inferflux\n\nallow if {\n", 3),
        ("package inferflux\n# é\nallow := = 3\n", 3),
        ("not rego at all", 1),
        ("", 1),
        (unless('contains(input.text, "a\\nb")'), 5),
        (unless('contains(input.text, `"`)'), 5),
        (unless('contains(input.text, "\\u0073")'), 5),
        (unless('regex.replace(input.text, "\\\\s", "") == "x"'), 5),
    ],
)
async def test_a_file_that_does_not_parse_or_deceives_is_named_with_its_line(
    tmp_path: Path, policy: str, line: int, capfd: Any
) -> None:
    with pytest.raises(ConfigError, match=rf"policy\.rego, line {line}: "):
        async with judging(tmp_path, policy):
            pass
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "data", ["[1]", "{", "", '{"a": ["say \\"x\\""]}', '{"a\\nb": 1}', '{"a": "\\u0001"}']
)
async def test_data_that_cannot_be_used_stop_the_start(tmp_path: Path, data: str) -> None:
    file = tmp_path / "data.json"
    file.write_text(data)
    with pytest.raises(ConfigError, match=r"data\.json"):
        async with judging(tmp_path, data=[str(file)]):
            pass


async def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.json"):
        async with judging(tmp_path, data=[str(tmp_path / "absent.json")]):
            pass


SLOW = """
package inferflux

allow if input.text == "trial"
allow if input.text == "quick"
allow if { input.text == "slow"; count(products) > 0 }

products := [1 | some a in numbers.range(1, 400); some b in numbers.range(1, 400); a * b == 7]
"""


async def test_a_policy_that_takes_too_long_fails_and_the_next_is_judged(tmp_path: Path) -> None:
    async with judging(tmp_path, SLOW, timeout=0.1) as outcome:
        assert await outcome("slow") == "failed: no answer of the policy in Rego within 0.1 seconds"
        assert await outcome("quick") == "allowed"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"policies": []},
        {"policies": ["a"], "action": "mask"},
        {"policies": ["a"], "query": "data.a; true"},
        {"policies": ["a"], "query": "input.a"},
        {"policies": ["a"], "endpoint": "http://127.0.0.1"},
    ],
)
def test_unknown_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, RegoConfig)
