from __future__ import annotations

import sys
from collections.abc import Callable

import msgspec
import pytest

from inferflux_core.errors import ConfigError, PluginError
from inferflux_core.plugins import AUTH, BACKEND, GUARDRAIL, KINDS, SCHEDULER, PluginManager
from inferflux_core.specs import AuthProviderSpec, BackendSpec, GuardrailSpec, Probe

Install = Callable[..., None]

NEVER_IMPORT = "raise AssertionError('a plugin that nobody chose was imported')"

ONE_OF_EACH = """
from inferflux_core.hookspecs import hookimpl
from inferflux_core import specs

@hookimpl
def inferflux_backends():
    yield specs.BackendSpec(name="fake", summary="", factory=print, probe=print)

@hookimpl
def inferflux_schedulers():
    yield specs.SchedulerSpec(name="fake", summary="", factory=print)

@hookimpl
def inferflux_guardrails():
    yield specs.GuardrailSpec(name="fake", summary="", factory=print)

@hookimpl
def inferflux_auth_providers():
    yield specs.AuthProviderSpec(name="fake", summary="", factory=print)
"""


def backend(probe: Callable[[], object]) -> BackendSpec:
    return BackendSpec(name="fake", summary="", factory=print, probe=probe)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_each_kind_has_a_typed_door(install: Install, kind) -> None:
    install("fake", ONE_OF_EACH, group=kind.group)
    manager = PluginManager()
    doors = {
        BACKEND: manager.backend,
        SCHEDULER: manager.scheduler,
        GUARDRAIL: manager.guardrail,
        AUTH: manager.auth_provider,
    }

    assert type(doors[kind]("fake")) is kind.spec_type


def test_only_the_chosen_plugin_is_imported(install: Install) -> None:
    install("chosen")
    install("idle", NEVER_IMPORT)
    manager = PluginManager()

    assert manager.scheduler("chosen").name == "chosen"
    assert "fake_idle" not in sys.modules


def test_a_spec_is_loaded_once(install: Install) -> None:
    install("chosen")
    manager = PluginManager()

    assert manager.scheduler("chosen") is manager.scheduler("chosen")


@pytest.mark.parametrize(
    ("kind", "name", "command"),
    [
        ("backend", "mps", 'pip install "inferflux[mps]"'),
        ("auth", "oidc", 'pip install "inferflux[oidc]"'),
        ("guardrail", "pii", 'pip install "inferflux[pii]"'),
        ("scheduler", "fair", 'pip install "inferflux[fair]"'),
        ("scheduler", "unheard-of", "inferflux_core.plugins list"),
    ],
)
def test_a_missing_plugin_comes_with_advice(
    only_fakes: Install, kind: str, name: str, command: str
) -> None:
    only_fakes("installed", group=KINDS[kind].group)

    with pytest.raises(PluginError) as caught:
        PluginManager().load(KINDS[kind], name)

    assert caught.value.message == f"{kind} plugin '{name}' is not installed; installed: installed"
    assert command in str(caught.value.hint)


def test_a_name_with_two_providers_is_refused_only_when_asked_for(install: Install) -> None:
    install("twin", distribution="acme-one", version="1.0")
    install("twin", distribution="acme-two", version="2.1")
    install("single")
    manager = PluginManager()

    assert manager.scheduler("single").name == "single"
    with pytest.raises(PluginError, match=r"provided by acme-one 1\.0 and acme-two 2\.1"):
        manager.scheduler("twin")


def test_the_report_tells_the_state_of_each_plugin(install: Install) -> None:
    install("good")
    install("idle", NEVER_IMPORT)
    install("bad", "1 / 0")
    install("twin", distribution="acme-one", version="1.0")
    install("twin", distribution="acme-two", version="2.1")
    install("garbled", also="no equals sign here\n")
    manager = PluginManager()
    manager.scheduler("good")
    with pytest.raises(PluginError):
        manager.scheduler("bad")

    rows = {(row.name, row.distribution): row for row in manager.report()}

    assert rows["good", "acme-good"].status == "loaded"
    assert rows["idle", "acme-idle"].status == "installed"
    assert rows["bad", "acme-bad"].status == "broken"
    assert "ZeroDivisionError" in rows["bad", "acme-bad"].detail
    assert rows["twin", "acme-one"].status == rows["twin", "acme-two"].status == "conflict"
    assert rows["twin", "acme-one"].detail == "provided by acme-one 1.0 and acme-two 2.1"
    assert rows["", "acme-garbled"].status == "broken"
    assert "fake_idle" not in sys.modules


def test_strict_loads_everything(only_fakes: Install) -> None:
    only_fakes("idle")

    (row,) = PluginManager(strict=True).report()

    assert (row.name, row.status) == ("idle", "loaded")


@pytest.mark.parametrize(
    ("source", "also", "message"),
    [
        ("1 / 0", "", "ZeroDivisionError"),
        (None, "no equals sign here\n", "metadata of acme-idle cannot be read"),
    ],
)
def test_strict_forgives_nothing(
    only_fakes: Install, source: str | None, also: str, message: str
) -> None:
    only_fakes("idle", source, also=also)

    with pytest.raises(PluginError, match=message):
        PluginManager(strict=True)


def test_strict_refuses_two_providers_of_one_name(only_fakes: Install) -> None:
    only_fakes("twin", distribution="acme-one")
    only_fakes("twin", distribution="acme-two")

    with pytest.raises(PluginError, match="provided by"):
        PluginManager(strict=True)


def test_a_probe_answers() -> None:
    answer = Probe(available=False, reason="no such device")

    assert PluginManager().probe(backend(lambda: answer)) is answer


@pytest.mark.parametrize(
    ("probe", "cause"),
    [
        (lambda: 1 / 0, "its probe failed: ZeroDivisionError"),
        (lambda: sys.exit(4), "its probe failed: SystemExit: 4"),
        (lambda: True, "its probe failed: it returned bool, not Probe"),
    ],
)
def test_a_probe_that_fails_is_a_broken_plugin(
    install: Install, probe: Callable[[], object], cause: str
) -> None:
    install("fake", ONE_OF_EACH, group=BACKEND.group)

    with pytest.raises(PluginError) as caught:
        PluginManager().probe(backend(probe))

    assert f"backend plugin 'fake' from acme-fake 0.3: {cause}" in caught.value.message


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    entities: list[str]
    mode: str = "mask"


GUARD = GuardrailSpec(name="pii", summary="", config_type=Options, factory=print)
LDAP = AuthProviderSpec(name="ldap", summary="", config_type=Options, factory=print)
OIDC = AuthProviderSpec(name="oidc", summary="", config_type=Options, factory=print)


def test_options_become_the_plugins_own_type() -> None:
    assert PluginManager().options(GUARD, {"entities": ["EMAIL"]}) == Options(["EMAIL"])


@pytest.mark.parametrize(
    ("spec", "raw", "message"),
    [
        (GUARD, {"entities": [5]}, "guardrails.options.pii.entities[0]: expected `str`, got `int`"),
        (GUARD, {}, "guardrails.options.pii: `entities` is required here"),
        (
            GUARD,
            {"entitys": []},
            "guardrails.options.pii.entitys: unknown key\n  hint: did you mean entities?",
        ),
        (
            LDAP,
            {"entities": "EMAIL"},
            "auth.options.ldap.entities: expected `array`, got `str`",
        ),
        (OIDC, {"entities": [], "mode": 1}, "auth.oidc.mode: expected `str`, got `int`"),
    ],
)
def test_wrong_options_are_named_by_their_path(spec, raw, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PluginManager().options(spec, raw)

    assert str(caught.value) == message
