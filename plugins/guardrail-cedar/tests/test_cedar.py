from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inferflux_core.errors import ConfigError
from inferflux_core.guardrails import Blocked, Direction, GuardrailContext, Reviewer
from inferflux_core.guardrails.reviewing import ReviewError
from inferflux_guardrail_cedar.config import CedarConfig
from inferflux_guardrail_cedar.plugin import inferflux_guardrails
from inferflux_guardrail_cedar.reviewer import CedarReviewer

pytestmark = pytest.mark.anyio

POLICY = """
@id("codename")
forbid (principal, action, resource) when { context.text like "*swordfish*" };

permit (principal == Tenant::"acme", action, resource == Model::"tiny");

permit (principal in Team::"research", action == Action::"prompt", resource)
when { context.length <= 5 };
"""
ENTITIES = """
[{"uid": {"type": "Tenant", "id": "lab"}, "attrs": {},
  "parents": [{"type": "Team", "id": "research"}]}]
"""
SCHEMA = """
entity Team;
entity Tenant in [Team];
entity Model;
action prompt, output appliesTo {
  principal: Tenant,
  resource: Model,
  context: { text: String, length: Long },
};
"""


def files(folder: Path, **texts: str) -> dict[str, str]:
    for name, text in texts.items():
        (folder / name).write_text(text)
    return {name: str(folder / name) for name in texts}


def reviewer(folder: Path, policy: str = POLICY, **texts: str) -> CedarReviewer:
    return CedarReviewer(
        CedarConfig(policies=[files(folder, policy=policy)["policy"]], **files(folder, **texts))
    )


async def outcome(judge: CedarReviewer, text: str = "hello", **changes: Any) -> str:
    named = {"request_id": "r-1", "tenant": "acme", "model": "tiny", **changes}
    try:
        await judge.review(GuardrailContext(**{"direction": Direction.PROMPT, **named}), text)
    except Blocked as verdict:
        return f"blocked: {verdict.rule}"
    except ReviewError as error:
        return f"failed: {error}"
    return "allowed"


def test_it_registers_itself(tmp_path: Path) -> None:
    (spec,) = inferflux_guardrails()
    options = {"policies": [files(tmp_path, policy=POLICY)["policy"]], "checks": ["output"]}
    made = spec.factory(msgspec.convert(options, spec.config_type))
    assert spec.name == "cedar"
    assert isinstance(made, Reviewer)
    assert made.directions == {Direction.OUTPUT}
    assert made.piece is None


def test_registration_does_not_load_the_evaluator() -> None:
    program = "import inferflux_guardrail_cedar.plugin, sys; print('cedarpy' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert ended.stdout.strip() == b"False"


@pytest.mark.parametrize("schema", [{}, {"schema": SCHEMA}])
async def test_policies_decide_by_tenant_direction_model_and_text(
    tmp_path: Path, schema: dict[str, str]
) -> None:
    judge = reviewer(tmp_path, entities=ENTITIES, **schema)
    assert await outcome(judge) == "allowed"
    assert await outcome(judge, "a swordfish") == "blocked: cedar.codename"
    assert await outcome(judge, model="large") == "blocked: cedar", "nobody permits it"
    assert await outcome(judge, tenant="stranger") == "blocked: cedar"
    assert await outcome(judge, "ab\ncd", tenant="lab", model="large") == "allowed"
    assert await outcome(judge, "abcdef", tenant="lab") == "blocked: cedar"
    assert await outcome(judge, "a", tenant="lab", direction=Direction.OUTPUT) == "blocked: cedar"
    await judge.close()


@pytest.mark.parametrize("before", ["\0", '"', "\\", "\n", '\\"', "é😀", "*", '"}', "\ufeff"])
async def test_no_character_hides_what_follows(tmp_path: Path, before: str) -> None:
    judge = reviewer(tmp_path)
    assert await outcome(judge, f"a{before}swordfish") == "blocked: cedar.codename"


@pytest.mark.parametrize("name", ['a"', "\n", "\\", 'x"; permit', ""])
async def test_names_are_names_and_no_policy(tmp_path: Path, name: str) -> None:
    judge = reviewer(tmp_path)
    assert await outcome(judge, tenant=name) == "blocked: cedar"


async def test_a_policy_that_fails_is_not_left_out(tmp_path: Path) -> None:
    """Cedar skips it; had it been able to judge, it may have forbidden the text."""
    failing = "permit (principal, action, resource);\n"
    failing += "forbid (principal, action, resource) when { context.absent == 1 };"
    assert await outcome(reviewer(tmp_path, failing)) == (
        "failed: a policy failed, and was left out of the decision"
    )


async def test_a_question_that_does_not_fit_the_schema_has_no_answer(tmp_path: Path) -> None:
    schema = SCHEMA.replace(", length: Long", ", length: Long, colour: String")
    judge = reviewer(tmp_path, "permit (principal, action, resource);", schema=schema)
    assert await outcome(judge) == "failed: the question does not fit the schema"


async def test_an_id_that_may_repeat_the_text_is_dropped(tmp_path: Path) -> None:
    policy = '@id("It says swordfish") forbid (principal, action, resource);'
    assert await outcome(reviewer(tmp_path, policy)) == "blocked: cedar"


async def test_no_policy_permits_nothing(tmp_path: Path) -> None:
    assert await outcome(reviewer(tmp_path, "// nothing\n")) == "blocked: cedar"


async def test_a_text_that_is_too_long_is_not_judged(tmp_path: Path) -> None:
    policy = files(tmp_path, policy=POLICY)["policy"]
    judge = CedarReviewer(CedarConfig(policies=[policy], max_bytes=1024))
    assert "max_bytes" in await outcome(judge, "é" * 513)
    assert await outcome(judge, "é" * 512) == "allowed"


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        ({"policy": "permit (principal, action"}, r"policy: unexpected end"),
        ({"policy": POLICY + "x"}, r"policy: .*"),
        ({"policy": "permit (principal, action, resource) when { nosuch(1) };"}, "nosuch"),
        ({"policy": "permit (principal == ?principal, action, resource);"}, "template"),
        ({"schema": "entity {"}, "schema: .*parsing schema"),
        ({"schema": "entity Tenant, Model;"}, "contradicts the schema"),
        ({"schema": SCHEMA.replace("length", "size")}, "contradicts the schema.*length"),
        ({"entities": "[{]"}, "entities: .*deserialization"),
        (
            {"entities": '[{"uid": {"type": "Pet", "id": "a"}, "attrs": {}, "parents": []}]'},
            "entities: ",
        ),
    ],
)
def test_what_cannot_be_used_stops_the_start(
    tmp_path: Path, texts: dict[str, str], complaint: str
) -> None:
    schema = {"schema": SCHEMA} if "entities" in texts else {}
    with pytest.raises(ConfigError, match=complaint):
        reviewer(tmp_path, **{**schema, **texts})


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        CedarReviewer(CedarConfig(policies=[str(tmp_path / "absent")]))


@pytest.mark.parametrize(
    "options", [{}, {"policies": []}, {"policies": ["a"], "action": "mask"}, {"policies": "a"}]
)
def test_unknown_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, CedarConfig)
