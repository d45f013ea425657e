from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import pytest

from inferflux_core.errors import PluginError
from inferflux_core.plugins import PluginManager
from inferflux_core.specs import PLUGIN_API_VERSION

Install = Callable[..., None]

SCHEDULER = """
from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import SchedulerSpec

@hookimpl
def inferflux_schedulers():
    {before}
    yield SchedulerSpec(name={name!r}, summary="A fake", factory={factory}, **{extra})
"""


def plugin(name: str, *, before: str = "pass", factory: str = "print", **extra: object) -> str:
    return SCHEDULER.format(name=name, before=before, factory=factory, extra=extra)


BROKEN = {
    "broken_import": (
        "import no_such_module_anywhere",
        "No module named 'no_such_module_anywhere'",
    ),
    "syntax_error": ("def", "SyntaxError"),
    "system_exit_at_import": ("raise SystemExit('give up')", "SystemExit: give up"),
    "broken_hook": (plugin("broken_hook", before="1 / 0"), "ZeroDivisionError"),
    "system_exit_in_hook": (plugin("system_exit_in_hook", before="exit(3)"), "SystemExit: 3"),
    "wrong_name": (plugin("something"), "it declares 'something'"),
    "bad_spec": (plugin("bad_spec").replace("yield SchedulerSpec", "yield dict"), "not dict"),
    "bad_factory": (plugin("bad_factory", factory="None"), "SchedulerSpec.factory"),
    "bad_summary": (plugin("x").replace('"A fake"', "5"), "SchedulerSpec.summary"),
    "bad_config": (plugin("bad_config", config_type=5), "SchedulerSpec.config_type"),
    "not_iterable": (
        "from inferflux_core.hookspecs import hookimpl\n"
        "inferflux_schedulers = hookimpl(lambda: 5)\n",
        "TypeError: 'int' object is not iterable",
    ),
    "wrong_arguments": (
        "from inferflux_core.hookspecs import hookimpl\n"
        "@hookimpl\n"
        "def inferflux_schedulers(config): return []\n",
        "PluginValidationError",
    ),
    "misspelt_hook": (
        plugin("misspelt_hook").replace("def inferflux_schedulers", "def inferflux_scheduler"),
        "there is no hook inferflux_scheduler; did you mean inferflux_schedulers?",
    ),
    "unrelated_hook": (
        plugin("unrelated_hook").replace("def inferflux_schedulers", "def zzz"),
        "there is no hook zzz; hooks are inferflux_backends, inferflux_schedulers",
    ),
    "unmarked_hook": (
        plugin("unmarked_hook").replace("@hookimpl", ""),
        "it declares nothing (is @hookimpl missing?)",
    ),
    "wrong_api_version": (
        plugin("wrong_api_version", api_version=PLUGIN_API_VERSION + 1),
        f"plugin acme-wrong_api_version 0.3 was written for plugin API {PLUGIN_API_VERSION + 1}; "
        f"this inferflux-core speaks {PLUGIN_API_VERSION}",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_requested_plugin_that_is_broken_stops_the_start(install: Install, name: str) -> None:
    source, cause = BROKEN[name]
    install(name, source)

    with pytest.raises(PluginError) as caught:
        PluginManager().scheduler(name)

    assert caught.value.message.startswith(
        f"scheduler plugin '{name}' from acme-{name} 0.3 is broken: "
    )
    assert cause in caught.value.message
    assert "pip install --upgrade" in str(caught.value.hint)


def test_the_cause_is_kept_for_the_traceback(install: Install) -> None:
    install("broken", "import no_such_module_anywhere")

    with pytest.raises(PluginError) as caught:
        PluginManager().scheduler("broken")

    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_an_interrupt_is_not_taken_for_a_defect(install: Install) -> None:
    install("slow", "raise KeyboardInterrupt")

    with pytest.raises(KeyboardInterrupt):
        PluginManager().scheduler("slow")


def test_an_old_plugin_is_to_be_upgraded_and_a_new_one_needs_a_newer_core(install: Install) -> None:
    install("old", plugin("old", api_version=PLUGIN_API_VERSION - 1))
    install("new", plugin("new", api_version=PLUGIN_API_VERSION + 1))
    manager = PluginManager()

    with pytest.raises(PluginError, match="pip install --upgrade acme-old"):
        manager.scheduler("old")
    with pytest.raises(PluginError, match="pip install --upgrade inferflux-core"):
        manager.scheduler("new")


def test_an_optional_hook_of_a_later_core_is_no_misspelling(install: Install) -> None:
    source = plugin("early") + "\n@hookimpl(optionalhook=True)\ndef inferflux_later(): return []\n"
    install("early", source)

    assert PluginManager().scheduler("early").name == "early"


def test_a_module_may_serve_several_names(install: Install) -> None:
    source = plugin("one") + "    yield SchedulerSpec(name='two', summary='', factory=print)\n"
    install("one", source, also="two = fake_one\n")
    manager = PluginManager()

    assert manager.scheduler("one").name == "one"
    assert manager.scheduler("two").name == "two"


def test_a_declared_name_without_an_entry_point_could_never_be_chosen(install: Install) -> None:
    source = plugin("one") + "    yield SchedulerSpec(name='two', summary='', factory=print)\n"
    install("one", source)

    with pytest.raises(PluginError, match="declares 'two' but has no entry point"):
        PluginManager().scheduler("one")


def test_a_name_is_declared_once(install: Install) -> None:
    install(
        "one", plugin("one") + "    yield SchedulerSpec(name='one', summary='', factory=print)\n"
    )

    with pytest.raises(PluginError, match="must declare 'one' once; it declares one, one"):
        PluginManager().scheduler("one")


def test_an_object_can_hold_the_hooks(install: Install) -> None:
    source = """
        from inferflux_core.hookspecs import hookimpl
        from inferflux_core.specs import SchedulerSpec

        class Plugin:
            @hookimpl
            def inferflux_schedulers(self):
                return [SchedulerSpec(name="held", summary="", factory=print)]

        plugin = Plugin()
    """
    install("held", source, value="fake_held:plugin")

    assert PluginManager().scheduler("held").name == "held"


def test_trace_logs_the_call_and_what_it_declared(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("seen", plugin("seen"))

    with caplog.at_level(logging.INFO, logger="inferflux.plugins"):
        PluginManager(trace=True).scheduler("seen")

    assert "calling inferflux_schedulers of ['fake_seen']" in caplog.text
    assert "inferflux_schedulers declared [SchedulerSpec(name='seen'" in caplog.text


def test_trace_logs_a_failure(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    source = plugin("seen", before="1 / 0").replace("    yield", "    return")
    install("seen", source)

    with caplog.at_level(logging.INFO, logger="inferflux.plugins"), pytest.raises(PluginError):
        PluginManager(trace=True).scheduler("seen")

    assert "inferflux_schedulers raised ZeroDivisionError" in caplog.text


def test_nothing_is_logged_untraced(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("seen", plugin("seen"))

    with caplog.at_level(logging.DEBUG, logger="inferflux.plugins"):
        PluginManager().scheduler("seen")

    assert caplog.text == ""
    assert "fake_seen" in sys.modules
