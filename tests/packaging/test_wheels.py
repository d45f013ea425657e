"""What a user gets: built wheels, and what pip chooses when it installs from them.

No index is asked. pip resolves among our wheels and, for everybody else's packages, wheels that hold
the metadata of what is installed here and nothing more.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.packaging.conftest import Distribution

pytestmark = pytest.mark.slow


def pip(*arguments: str | Path) -> str:
    """Run this environment's pip without an index and return what it printed."""
    command = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check"]
    answer = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.fixture(scope="session")
def wheels(
    root: Distribution, members: dict[str, Distribution], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with the wheels of all our distributions."""
    folder = tmp_path_factory.mktemp("wheels")
    sources = [d.folder for d in [root, *members.values()]]
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, *sources)
    return folder


@pytest.fixture(scope="session")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one wheel of metadata for each installed distribution that is not ours."""
    folder = tmp_path_factory.mktemp("others")
    for installed in distributions():
        name = installed.metadata["Name"].replace("-", "_").replace(".", "_")
        if name.startswith("inferflux"):
            continue
        info = f"{name}-{installed.version}.dist-info"
        with zipfile.ZipFile(folder / f"{name}-{installed.version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{info}/METADATA", installed.read_text("METADATA") or "")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    return folder


@pytest.fixture(scope="session")
def chosen(wheels: Path, others: Path) -> Callable[[str], set[str]]:
    """Returns a function: the distributions that pip would install for a requirement."""

    def choose(requirement: str) -> set[str]:
        report = pip(
            *("install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"),
            *("--no-index", "--find-links", wheels, "--find-links", others, requirement),
        )
        return {item["metadata"]["name"].lower() for item in json.loads(report)["install"]}

    return choose


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith("inferflux")}


SERVER = {"inferflux", "inferflux-core", "inferflux-api", "inferflux-cli"}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_an_extra_installs_its_backend_and_no_other(
    chosen: Callable[[str], set[str]], device: str
) -> None:
    names = chosen(f"inferflux[{device}]")
    runner = {"inferflux-gguf", "inferflux-runner-llamacpp"}
    assert ours(names) == SERVER | runner | {f"inferflux-backend-{device}"}
    assert "litestar" in names
    assert "torch" not in names


def test_the_torch_runner_comes_where_it_is_asked_for(chosen: Callable[[str], set[str]]) -> None:
    names = chosen("inferflux[cpu-torch]")
    assert "inferflux-backend-cuda" not in names
    assert {"inferflux-backend-cpu", "inferflux-runner-torch", "torch", "tokenizers"} <= names


def test_without_extras_no_plugin_and_no_model_library_is_installed(
    chosen: Callable[[str], set[str]],
) -> None:
    names = chosen("inferflux")
    assert ours(names) == SERVER
    assert not {name for name in names if name.startswith("llama")}


def test_governance_plugins_come_without_any_backend(chosen: Callable[[str], set[str]]) -> None:
    added = ours(chosen("inferflux[pii,opa,rego,cedar,webhook,oidc]")) - SERVER
    assert added == {
        "inferflux-guardrail-pii",
        "inferflux-guardrail-opa",
        "inferflux-guardrail-rego",
        "inferflux-guardrail-cedar",
        "inferflux-guardrail-webhook",
        "inferflux-auth-oidc",
    }


def test_core_stays_small(chosen: Callable[[str], set[str]]) -> None:
    names = {name.replace("_", "-") for name in chosen("inferflux-core")}
    assert names == {
        "inferflux-core",
        "jinja2",
        "llguidance",
        "markupsafe",
        "msgspec",
        "numpy",
        "pluggy",
        "pyyaml",
    }


def test_every_other_member_installs_with_core_alone(
    chosen: Callable[[str], set[str]], members: dict[str, Distribution]
) -> None:
    """Backends, which also bring the runner, are resolved above; runners stand on files and kernels."""
    for name in members:
        if not name.startswith("inferflux-backend-"):
            below = {"inferflux-gguf", "inferflux-kernels-cpu"} if "-runner-" in name else set()
            assert {name} <= ours(chosen(name)) <= {name, "inferflux-core"} | below


def test_a_wheel_holds_every_file_of_its_package(
    wheels: Path, members: dict[str, Distribution]
) -> None:
    for distribution in members.values():
        source = distribution.folder / "src"
        expected = {
            str(path.relative_to(source))
            for path in source.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        (path,) = wheels.glob(f"{distribution.import_name}-*.whl")
        with zipfile.ZipFile(path) as wheel:
            held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        assert held == expected, distribution.name


def test_the_root_wheel_holds_metadata_only(wheels: Path) -> None:
    (path,) = wheels.glob("inferflux-[0-9]*.whl")
    with zipfile.ZipFile(path) as wheel:
        assert all(".dist-info/" in name for name in wheel.namelist())


def test_the_server_imports_from_wheels(wheels: Path, tmp_path: Path) -> None:
    """Not from this checkout: the wheels come first on the path, and the answer is checked."""
    names = ["inferflux-api", "inferflux-core", "inferflux-cli", "inferflux-backend-cpu"]
    names += ["inferflux-gguf", "inferflux-runner-llamacpp"]
    pip("install", "--no-deps", "--no-index", "--find-links", wheels, "--target", tmp_path, *names)
    code = (
        "import inferflux_api.main, inferflux_backend_cpu.plugin, inferflux_cli.main, inferflux_core;"
        "print(inferflux_api.__path__[0], inferflux_core.__path__[0], sep='\\n')"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert [Path(line).parent for line in answer.stdout.split()] == [tmp_path, tmp_path]
