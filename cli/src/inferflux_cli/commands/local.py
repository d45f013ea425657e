"""`inferctl plugins` and `inferctl config`: about the installation here, not about a server.

They run the server's own modules in a child process, so that this client imports none of them.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec

import rich_click as click
from click.exceptions import Exit

from inferflux_cli.commands._help import examples
from inferflux_cli.errors import CliError
from inferflux_cli.settings import connection_options, current_settings

__all__ = ["as_path", "config", "plugins", "run_module"]

_CORE = "inferflux_core"


@click.group(epilog=examples("inferctl plugins list", "inferctl plugins check cpu"))
@connection_options
def plugins() -> None:
    """Show the plugins installed here."""


@plugins.command("list", epilog=examples("inferctl plugins list", "inferctl plugins list --json"))
@connection_options
def list_plugins() -> None:
    """List the installed plugins."""
    run_module(_CORE, "plugins", "list")


_KIND = click.option(
    "--kind",
    type=click.Choice(["backend", "scheduler", "guardrail", "auth"]),
    help="Only this kind of plugin.",
)


@plugins.command("check", epilog=examples("inferctl plugins check cpu"))
@click.argument("name", metavar="NAME")
@_KIND
@connection_options
def check_plugin(*, name: str, kind: str | None) -> None:
    """Load a plugin and say whether it works; a backend, whether it can run here."""
    run_module(_CORE, "plugins", "check", name, *_given_kind(kind))


@plugins.command("info", epilog=examples("inferctl plugins info cpu"))
@click.argument("name", metavar="NAME")
@_KIND
@connection_options
def show_plugin(*, name: str, kind: str | None) -> None:
    """Show one plugin in full."""
    run_module(_CORE, "plugins", "info", name, *_given_kind(kind))


def _given_kind(kind: str | None) -> list[str]:
    return ["--kind", kind] if kind else []


@click.group(epilog=examples("inferctl config check config/server.yaml"))
@connection_options
def config() -> None:
    """Check server configurations."""


@config.command("schema", epilog=examples("inferctl config schema > server.schema.json"))
@connection_options
def schema() -> None:
    """Print the JSON Schema of the configuration file."""
    run_module(_CORE, "config", "schema")


@config.command("check", epilog=examples("inferctl config check config/server.yaml"))
@click.argument("path", metavar="PATH")
@connection_options
def check(*, path: str) -> None:
    """Check a configuration file without starting anything."""
    run_module(_CORE, "config", "check", path)


def run_module(package: str, module: str, *arguments: str, extra: str = "") -> None:
    """Run a module of the server, hand its output through and leave with its exit code.

    Args:
        package: that has the module.
        module: its name within the package.
        arguments: for it.
        extra: of the server's distribution, if one brings the package.

    Raises:
        CliError: it is not installed here.
    """
    if not _installed(package, module):
        server = f"InferFlux server with the extra '{extra}'" if extra else "InferFlux server"
        wanted = f'"inferflux[{extra}]"' if extra else "inferflux"
        raise CliError(f"no {server} is installed in {sys.prefix}", hint=f"pip install {wanted}")
    flags = ["--json"] if current_settings().json else []
    # -P keeps a file of the current directory from posing as one of the server's modules.
    command = [sys.executable, "-P", "-m", f"{package}.{module}", *arguments, *flags]
    code = subprocess.run(command, check=False).returncode  # noqa: S603 (a list, no shell)
    raise Exit(code if code >= 0 else 128 - code)


def as_path(file: str) -> str:
    """The same file, by a name that no program takes for an option."""
    return f"./{file}" if file.startswith("-") else file


def _installed(package: str, module: str) -> bool:
    """Return whether a package has `module`, without importing any of it."""
    spec = find_spec(package)
    for part in module.split("."):
        if spec is None or spec.submodule_search_locations is None:
            return False
        path = list(spec.submodule_search_locations)
        spec = PathFinder.find_spec(f"{spec.name}.{part}", path)
    return spec is not None
