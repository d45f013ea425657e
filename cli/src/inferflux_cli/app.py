"""The command tree of `inferctl`."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from itertools import pairwise

import rich_click as click
from click.exceptions import Exit

from inferflux_cli.commands.adapters import adapters
from inferflux_cli.commands.admin import admin
from inferflux_cli.commands.audit import audit
from inferflux_cli.commands.chat import chat
from inferflux_cli.commands.completion import completion
from inferflux_cli.commands.conversion import convert, quantize
from inferflux_cli.commands.embed import embed
from inferflux_cli.commands.local import config, plugins
from inferflux_cli.commands.login import login, logout
from inferflux_cli.commands.models import models, tune
from inferflux_cli.commands.responses import responses
from inferflux_cli.commands.sse import sse
from inferflux_cli.commands.status import status
from inferflux_cli.errors import CliError, WrongUsageError
from inferflux_cli.render import Output
from inferflux_cli.settings import connection_options, wants_json

__all__ = ["cli", "run"]


class _Cli(click.RichGroup):
    """Reports failures while the context still knows whether JSON was asked for."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except CliError as error:
            Output(as_json=wants_json(ctx)).error(error)
            raise Exit(error.exit_code) from error
        except KeyboardInterrupt:
            raise Exit(130) from None
        except BrokenPipeError:
            raise Exit(141) from None


@click.group(
    cls=_Cli,
    epilog="Environment: INFERCTL_API_KEY holds the API key; NO_COLOR turns colours off.",
    context_settings={
        "help_option_names": ["-h", "--help"],
        "rich_help_config": {"theme": "default-box" if sys.stdout.isatty() else "plain-slim"},
    },
)
@click.version_option(package_name="inferflux-cli", prog_name="inferctl")
@connection_options
def cli() -> None:
    """Talk to an InferFlux server from the command line.

    The options below may stand before or after the name of the command.
    """


_COMMANDS = (
    *(status, login, logout, completion, chat, responses, embed),
    *(models, tune, adapters, admin, sse, plugins, config, audit, convert, quantize),
)
for _command in _COMMANDS:
    cli.add_command(_command)


def run() -> int:
    """Run the command line of this process and return its exit code."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        # Never die of a character that this terminal or pipe cannot carry.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        return cli.main(prog_name="inferctl", standalone_mode=False) or 0
    except click.ClickException as error:
        if _wants_json(sys.argv[1:]):
            Output(as_json=True).error(WrongUsageError(error.format_message()))
        else:
            error.show()
        return error.exit_code
    except click.Abort:
        return 130


def _wants_json(arguments: Sequence[str]) -> bool:
    """Return whether a command line that could not be understood asks for JSON."""
    return not {"--json", "--output=json"}.isdisjoint(arguments) or any(
        pair == ("--output", "json") for pair in pairwise(arguments)
    )
