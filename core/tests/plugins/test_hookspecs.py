from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from inferflux_core import hookspecs
from inferflux_core.plugins import KINDS, PluginManager
from inferflux_core.specs import PLUGIN_API_VERSION

Install = Callable[..., None]

HOOKS = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("inferflux_")}
PAGE = Path(__file__).parents[3] / "docs" / "plugins" / "hooks.md"


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_explains_itself(name: str) -> None:
    text = inspect.getdoc(HOOKS[name]) or ""

    assert "Returns:\n" in text
    assert "Example:\n" in text
    assert f"def {name}(" in text


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_has_a_section_in_the_documentation(name: str) -> None:
    arguments = ", ".join(inspect.signature(HOOKS[name]).parameters)

    headings = [line for line in PAGE.read_text().splitlines() if line.startswith("#")]

    assert f"## `{name}({arguments})`" in headings


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_belongs_to_one_kind_whose_group_is_documented(name: str) -> None:
    (kind,) = [kind for kind in KINDS.values() if kind.hook == name]

    assert f"`{kind.group}`" in PAGE.read_text()


def test_the_page_names_no_hook_that_does_not_exist() -> None:
    headings = [line for line in PAGE.read_text().splitlines() if line.startswith("## `")]

    assert len(headings) == len(HOOKS)


@pytest.mark.parametrize("name", HOOKS)
def test_the_documented_example_is_a_working_plugin(install: Install, name: str) -> None:
    (kind,) = [kind for kind in KINDS.values() if kind.hook == name]
    section = PAGE.read_text().partition(f"## `{name}()`")[2].partition("\n## ")[0]
    source = section.partition("```python\n")[2].partition("```")[0]
    (plugin,) = re.findall(r'name="(\w+)"', source)
    install(plugin, source, group=kind.group)

    assert PluginManager().load(kind, plugin).api_version == PLUGIN_API_VERSION
