"""The manifests agree with each other and with the rules of the house."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from tests.packaging.conftest import Distribution

KINDS = {
    "inferflux.auth": "auth",
    "inferflux.backends": "backend",
    "inferflux.guardrails": "guardrail",
    "inferflux.schedulers": "scheduler",
}


FOUNDATIONS = {"inferflux-core", "inferflux-gguf", "inferflux-kernels-cpu"}
"""What runners stand on."""


def ours(requirements: Iterable[str]) -> dict[str, str]:
    """Our own distributions among these requirements, with the versions asked for."""
    parsed = [Requirement(line) for line in requirements]
    return {r.name: str(r.specifier) for r in parsed if r.name.startswith("inferflux")}


def test_all_versions_agree(root: Distribution, members: dict[str, Distribution]) -> None:
    versions = {d.name: d.manifest["project"]["version"] for d in [root, *members.values()]}
    assert len(set(versions.values())) == 1, versions


def test_the_root_pins_every_member_but_the_runners(
    root: Distribution, members: dict[str, Distribution]
) -> None:
    project = root.manifest["project"]
    extras = project["optional-dependencies"].values()
    pinned = ours([*project["dependencies"], *(line for lines in extras for line in lines)])
    runners = {name for name, d in members.items() if d.folder.parent.name == "runners"}
    assert set(pinned) == members.keys() - runners
    assert set(pinned.values()) == {f"=={project['version']}"}


def test_an_extra_brings_one_plugin(root: Distribution) -> None:
    extras = root.manifest["project"]["optional-dependencies"]
    assert {name: len(lines) for name, lines in extras.items() if len(lines) != 1} == {}


def test_folder_distribution_and_import_names_follow_from_each_other(
    members: dict[str, Distribution],
) -> None:
    for distribution in members.values():
        package = distribution.folder / "src" / distribution.import_name
        assert (package / "__init__.py").is_file(), package
        assert (package / "py.typed").is_file(), package


def test_every_member_has_a_readme_and_tests(members: dict[str, Distribution]) -> None:
    for distribution in members.values():
        title = (distribution.folder / "README.md").read_text().splitlines()[0]
        assert title.startswith("# "), distribution.folder
        assert list(distribution.folder.glob("tests/**/test_*.py")), distribution.folder


def test_a_plugin_is_named_after_its_entry_point(members: dict[str, Distribution]) -> None:
    plugins = [d for d in members.values() if d.folder.parent.name == "plugins"]
    for distribution in plugins:
        ((group, entries),) = distribution.manifest["project"]["entry-points"].items()
        ((name, target),) = entries.items()
        assert distribution.name == f"inferflux-{KINDS[group]}-{name}"
        assert target == f"{distribution.import_name}.plugin"


def test_members_ask_for_a_range_of_core_and_plugins_never_for_each_other(
    members: dict[str, Distribution],
) -> None:
    for distribution in members.values():
        needs = ours(distribution.manifest["project"]["dependencies"])
        runners = {name for name in needs if "-runner-" in name}
        assert not runners or distribution.name.startswith("inferflux-backend-")
        foundations = FOUNDATIONS if "-runner-" in distribution.name else {"inferflux-core"}
        assert set(needs) - runners <= foundations, distribution.name
        assert set(needs.values()) <= {"<1,>=0.1"}, distribution.name


def test_every_direct_dependency_has_a_tested_version(
    root: Distribution, members: dict[str, Distribution]
) -> None:
    lines = (root.folder / "requirements" / "constraints.txt").read_text().splitlines()
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines if "==" in line}
    needed = {
        canonicalize_name(Requirement(line).name)
        for distribution in members.values()
        for line in distribution.manifest["project"]["dependencies"]
    }
    assert {name for name in needed if not name.startswith("inferflux-")} - pinned == set()


def test_the_type_checker_and_the_layers_know_every_member(
    root: Distribution, members: dict[str, Distribution]
) -> None:
    tools = root.manifest["tool"]
    sources = {str((d.folder / "src").relative_to(root.folder)) for d in members.values()}
    assert set(tools["mypy"]["files"]) == set(tools["mypy"]["mypy_path"]) == sources
    imports = {d.import_name for d in members.values()}
    assert set(tools["importlinter"]["root_packages"]) == imports
    assert set(tools["ruff"]["lint"]["isort"]["known-first-party"]) == imports
