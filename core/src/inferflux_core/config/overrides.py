"""Settings from the environment and from `-o` flags."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from msgspec import inspect

from inferflux_core.config.conversion import type_at
from inferflux_core.config.document import parse
from inferflux_core.config.problems import did_you_mean
from inferflux_core.errors import ConfigError

__all__ = ["ENVIRONMENT", "Override", "from_environment", "from_flag"]

_PREFIX: Final = "INFERFLUX_"
_PATH_PREFIX: Final = "INFERFLUX__"

ENVIRONMENT: Final[Mapping[str, tuple[str, ...]]] = {
    "INFERFLUX_AUDIT_LOG": ("audit", "path"),
    "INFERFLUX_GUARDRAIL_BLOCKLIST": ("guardrails", "blocklist"),
    "INFERFLUX_MODEL_PATH": ("model", "path"),
    "INFERFLUX_MPS_LAYERS": ("runtime", "mps_layers"),
    "INFERFLUX_OIDC_AUDIENCE": ("auth", "oidc", "audience"),
    "INFERFLUX_OIDC_ISSUER": ("auth", "oidc", "issuer"),
    "INFERFLUX_POLICY_STORE": ("policy_store",),
    "INFERFLUX_RATE_LIMIT_PER_MINUTE": ("rate_limit", "requests_per_minute"),
}
"""The variables with a name of their own, and the key each one sets."""

# Read elsewhere: passphrases are never part of the tree, so that nothing can print them.
_READ_ELSEWHERE: Final = frozenset(
    {"INFERFLUX_POLICY_PASSPHRASE", "INFERFLUX_POLICY_PASSPHRASE_NEXT"}
)
_ENGINE_PREFIX: Final = "INFERFLUX_ENGINE_"
_SERVICE_LINK: Final = re.compile(r".*_(SERVICE_(HOST|PORT)(_.*)?|PORT(_\d+_(TCP|UDP)(_.*)?)?)")


@dataclass(frozen=True, slots=True)
class Override:
    """One setting.

    Attributes:
        path: keys from the root to the setting.
        value: what it is set to.
        label: names the variable or flag, for messages.
    """

    path: tuple[str, ...]
    value: Any
    label: str

    @property
    def layer(self) -> dict[str, Any]:
        """The setting as a tree of its own."""
        value = self.value
        for key in reversed(self.path):
            value = {key: value}
        return dict(value)


def from_environment(env: Mapping[str, str]) -> Iterator[Override]:
    """Yield the settings in `INFERFLUX_*` variables, in alphabetical order; empty ones count as unset.

    `INFERFLUX__SERVER__PORT` sets `server.port`; well-known settings have shorter names, which win.

    Raises:
        ConfigError: a variable has an unknown name, or a value that cannot be read.
    """
    # "_" sorts after the capitals, which would let the generic spelling win.
    for name in sorted(env, key=lambda name: (not name.startswith(_PATH_PREFIX), name)):
        if not name.startswith(_PREFIX) or name in _READ_ELSEWHERE:
            continue
        if name.startswith(_ENGINE_PREFIX):
            continue
        label = f"environment variable {name}"
        path = _path_of(name, label)
        if env[name]:
            yield Override(path, _value(path, env[name], label), label)


def from_flag(text: str) -> Override:
    """Read the argument of `-o`: `server.port=9000`.

    Raises:
        ConfigError: it is not of that form, or its value cannot be read.
    """
    key, equals, value = text.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise ConfigError(
            f"flag -o {key}: not of the form path=value", hint="for example -o server.port=9000"
        )
    label = f"flag -o {key.strip()}"
    return Override(path, _value(path, value, label), label)


def _path_of(name: str, label: str) -> tuple[str, ...]:
    if name in ENVIRONMENT:
        return ENVIRONMENT[name]
    if name.startswith(_PATH_PREFIX):
        path = tuple(name.removeprefix(_PATH_PREFIX).lower().split("__"))
        if all(path):
            return path
    hint = did_you_mean(name, [*ENVIRONMENT, *_READ_ELSEWHERE])
    if _SERVICE_LINK.fullmatch(name):
        hint = "Kubernetes sets it for a Service of that name: set `enableServiceLinks: false`"
    raise ConfigError(
        f"{label}: no setting has this name",
        hint=f"{hint}\n  any key can be set as {_PATH_PREFIX}SECTION__KEY",
    )


def _value(path: tuple[str, ...], text: str, label: str) -> Any:
    """Read text as the schema's type at `path`: text stays text, words make a list, the rest is YAML."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{label}: not valid UTF-8") from None
    if text == "null":
        return None
    match type_at(path):
        case inspect.StrType() | inspect.LiteralType():
            return text
        case inspect.AnyType() if path in ENVIRONMENT.values():
            return text
        case inspect.ListType(item_type=inspect.StrType()) if not text.lstrip().startswith("["):
            return [word.strip() for word in text.split(",") if word.strip()]
    return parse(text, _always(label)).value


def _always(label: str) -> Callable[[int], str]:
    return lambda _line: label
