"""What the documentation shows is true: links lead somewhere, code runs, configurations are valid."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from support.pages import ROOT, Block, blocks, pages

from inferflux_core.config import load_config
from inferflux_core.config.schema import Config

BLOCKS = [block for page in pages() for block in blocks(page)]
PLUGIN_PAGES = ROOT / "docs" / "plugins"
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FENCED = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
SECTIONS = set(Config.__struct_fields__)


def written_in(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def local_links(page: Path) -> Iterator[str]:
    text = re.sub(r"`[^`\n]*`", "", FENCED.sub("", page.read_text(encoding="utf-8")))
    for link in LINK.finditer(text):
        if not re.match(r"[a-z]+:", link["target"]):
            yield unquote(link["target"])


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub spells them in addresses."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_pages_and_blocks_are_found() -> None:
    assert ROOT / "README.md" in pages()
    assert PLUGIN_PAGES / "index.md" in pages()
    assert {"python", "yaml", "toml"} <= {block.language for block in BLOCKS}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in local_links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} does not exist"
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.path], ids=str)
def test_a_block_that_shows_a_file_is_the_file(block: Block) -> None:
    assert block.path is not None
    assert block.text == (ROOT / block.path).read_text(encoding="utf-8")


@pytest.mark.parametrize("block", written_in("python"), ids=str)
def test_python_compiles_and_in_the_plugin_guide_it_runs(block: Block) -> None:
    code = compile(block.text, str(block), "exec")
    if block.page.parent == PLUGIN_PAGES:
        exec(code, {"__name__": "block"})  # noqa: S102 - our own documentation


@pytest.mark.parametrize("block", written_in("toml"), ids=str)
def test_toml_is_valid(block: Block) -> None:
    assert tomllib.loads(block.text)


@pytest.mark.parametrize("block", written_in("yaml", "yml"), ids=str)
def test_yaml_is_valid_and_what_looks_like_a_configuration_is_one(
    block: Block, tmp_path: Path
) -> None:
    tree = yaml.safe_load(block.text)
    if not SECTIONS & set(tree):
        return
    file = tmp_path / "server.yaml"
    file.write_text(block.text, encoding="utf-8")
    names = re.findall(r"\$\{env:(\w+)\}", block.text)
    load_config(file, {name: f"value-of-{name}" for name in names}, [])


def test_a_configuration_with_a_mistake_would_be_noticed(tmp_path: Path) -> None:
    block = Block(ROOT / "README.md", 1, "yaml", "runtime:\n  backnd: echo\n")
    with pytest.raises(Exception, match="backnd"):
        test_yaml_is_valid_and_what_looks_like_a_configuration_is_one(block, tmp_path)
