"""Options of administrators: which action, and what is to change."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeVar

import rich_click as click

from inferflux_cli.shapes import as_object

__all__ = [
    "LIMITS",
    "changes",
    "flag",
    "limit_options",
    "listed",
    "names",
    "none_option",
    "one_action",
    "with_limits",
]

Command = TypeVar("Command", bound=Callable[..., Any])

LIMITS: Final = {
    "requests_per_minute": ("requests-per-minute", "Requests in any 60 seconds."),
    "tokens_per_minute": (
        "tokens-per-minute",
        "Tokens, of prompts and answers, in any 60 seconds.",
    ),
    "concurrent_requests": ("concurrent", "Requests at the same time."),
    "tokens_per_day": ("tokens-per-day", "Tokens in any 24 hours."),
}
"""Fields of limits, with the options that set them."""
_FIELDS: Final = {option: field for field, (option, _) in LIMITS.items()}
_OPTIONS: Final = {field: option for option, field in _FIELDS.items()} | {"disabled": "disable"}


def names(text: str) -> list[str]:
    """Take names with commas between them apart.

    Raises:
        click.BadParameter: there is none.
    """
    found = listed(text.split(","))
    if not found:
        raise click.BadParameter("there is nothing in this list.")
    return found


def listed(items: Sequence[str]) -> list[str]:
    """What is not blank, once each, in its order."""
    return list(dict.fromkeys(item.strip() for item in items if item.strip()))


def limit_options(*without: str) -> Callable[[Command], Command]:
    """Decorate a command with an option for each limit, but those `without`."""

    def decorate(command: Command) -> Command:
        for field, (option, about) in reversed(LIMITS.items()):
            if field not in without:
                command = click.option(
                    f"--{option}", field, type=click.IntRange(min=1), metavar="N", help=about
                )(command)
        return command

    return decorate


def none_option(*others: str) -> Callable[[Command], Command]:
    """Decorate a command with `--none`, for limits and `others`."""
    fields = [*_FIELDS, *others]
    about = f"Lift a limit, or empty a field; repeatable: {', '.join(fields)}."
    return click.option(
        "--none", type=click.Choice(fields), multiple=True, metavar="FIELD", help=about
    )


def flag(name: str, about: str) -> Callable[[Command], Command]:
    """Decorate a command with a flag, which is None where it is not given."""
    return click.option(f"--{name}", is_flag=True, default=None, help=about)


def one_action(
    takes: Mapping[str, Collection[str]], given: Mapping[str, object], default: str = ""
) -> str:
    """Return the one option of `given` that says what to do.

    Args:
        takes: all actions, with the options that go with each.
        given: all options of the command, by parameter; None and () stand for left out.
        default: what to do without any option, if there is something.

    Raises:
        click.UsageError: there is none, there are several, or an option does not go with it.
    """
    present = [name for name, value in given.items() if value is not None and value != ()]
    if default and not present:
        return default
    actions = [name for name in present if name in takes]
    if len(actions) != 1:
        *first, last = (f"--{name}" for name in takes if name in given)
        raise click.UsageError(f"give one of {', '.join(first)} and {last}.")
    (action,) = actions
    for name in present:
        if name != action and name not in takes[action]:
            raise click.UsageError(f"--{_OPTIONS.get(name, name)} does not go with --{action}.")
    return action


def changes(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what options say, by field, and None for what `--none` names.

    Raises:
        click.UsageError: one is given and taken away at once.
    """
    given = {n: v for n, v in options.items() if n != "none" and v is not None}
    lifted = {_FIELDS.get(name, name): name for name in options["none"]}
    for field in given.keys() & lifted.keys():
        raise click.UsageError(f"--none {lifted[field]} contradicts another option.")
    return given | dict.fromkeys(lifted)


def with_limits(said: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Return what is said with the limits in one field, beside those that were there before."""
    limits = {field: value for field, value in said.items() if field in LIMITS}
    body = {field: value for field, value in said.items() if field not in LIMITS}
    return body | {"limits": as_object(before.get("limits")) | limits} if limits else body
