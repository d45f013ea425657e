"""The policies on the pages about guardrails do what those pages say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.pages import ROOT, blocks

from inferflux_core.guardrails import Blocked, Direction, GuardrailContext, Reviewer
from inferflux_core.plugins import PluginManager

Save = Callable[[str, str], None]

pytestmark = pytest.mark.anyio

PAGE = ROOT / "docs" / "guardrails.md"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Save:
    """Writes files of the folder that a server would be started in."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> None:
        Path(name).write_text(text)

    return write


def written(page: Path, language: str) -> list[str]:
    return [block.text for block in blocks(page) if block.language == language]


def options(page: Path, name: str) -> dict[str, Any]:
    """Those that the page configures for a guardrail."""
    for text in written(page, "yaml"):
        guardrails = yaml.safe_load(text).get("guardrails", {})
        if guardrails.get("enabled") == [name]:
            found: dict[str, Any] = guardrails["options"][name]
            return {k: v for k, v in found.items() if (k, v) != ("on_failure", "block")}
    raise AssertionError(f"{page} configures no {name}")


def reviewer(name: str, given: dict[str, Any]) -> Reviewer:
    plugins = PluginManager()
    spec = plugins.guardrail(name)
    made = spec.factory(plugins.options(spec, given))
    assert isinstance(made, Reviewer)
    return made


async def outcome(judge: Reviewer, tenant: str, model: str, text: str) -> str:
    try:
        await judge.review(GuardrailContext("r", tenant, model, Direction.PROMPT), text)
    except Blocked as verdict:
        return verdict.rule
    return "allowed"


@pytest.mark.parametrize("name", ["rego", "cedar"])
async def test_the_page_about_guardrails(save: Save, name: str) -> None:
    (policy,) = written(PAGE, name)
    save(f"policy.{name}", policy)
    save("words.json", '{"words": ["swordfish"]}')
    judge = reviewer(name, options(PAGE, name))
    assert await outcome(judge, "acme", "tiny", "hello") == "allowed"
    assert await outcome(judge, "acme", "tiny", "a swordfish") == f"{name}.word"
    assert await outcome(judge, "stranger", "tiny", "hello") == name
    await judge.close()


async def test_the_page_about_rego(save: Save) -> None:
    page = ROOT / "plugins" / "guardrail-rego" / "README.md"
    save("policy.rego", written(page, "rego")[0])
    save("words.json", written(page, "json")[0])
    judge = reviewer("rego", options(page, "rego"))
    assert await outcome(judge, "acme", "tiny", "hello") == "allowed"
    assert await outcome(judge, "acme", "tiny", "XYZZY") == "rego"
    await judge.close()


async def test_the_page_about_cedar(save: Save) -> None:
    page = ROOT / "plugins" / "guardrail-cedar" / "README.md"
    policy, schema = written(page, "cedar")
    save("policy.cedar", policy)
    save("schema.cedarschema", schema)
    save("entities.json", written(page, "json")[0])
    judge = reviewer("cedar", options(page, "cedar"))
    assert await outcome(judge, "acme", "smollm2", "hello") == "allowed"
    assert await outcome(judge, "acme", "smollm2", "a swordfish") == "cedar.codename"
    assert await outcome(judge, "acme", "smollm2", "a" * 2001) == "cedar.codename"
    assert await outcome(judge, "other", "smollm2", "hello") == "cedar"


@pytest.mark.parametrize("name", ["webhook", "presidio"])
def test_the_options_on_other_pages_exist(name: str) -> None:
    plugins = PluginManager()
    page = ROOT / "plugins" / f"guardrail-{name}" / "README.md"
    spec = plugins.guardrail(name)
    given = options(page, name)
    plugins.options(spec, given)
    assert given.keys() | {"model"} >= set(spec.config_type.__struct_fields__)
