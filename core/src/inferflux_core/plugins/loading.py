"""From a provider's metadata to its validated spec. Everything that goes wrong is a `PluginError`."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

import pluggy

from inferflux_core import hookspecs
from inferflux_core.errors import PluginError
from inferflux_core.plugins.discovery import Provider
from inferflux_core.plugins.kinds import KNOWN_PLUGINS, Kind, SpecT
from inferflux_core.plugins.validation import SpecDefect, check_spec

__all__ = ["cause_of", "install_hint", "load_spec", "repair_hint"]

logger: Final = logging.getLogger("inferflux.plugins")


def load_spec(
    kind: Kind[SpecT], provider: Provider, own_names: Collection[str], *, trace: bool
) -> SpecT:
    """Import a plugin and return the spec that has its entry point's name.

    Args:
        kind: the kind that was asked for.
        provider: the one distribution that offers the name.
        own_names: every name of this kind that the distribution offers.
        trace: log the hook call and its result.

    Raises:
        PluginError: the plugin cannot be imported, its hook fails, or what it declares is wrong.
    """
    try:
        plugin = provider.entry_point.load()
        specs = _declared(kind, plugin, trace=trace)
        for spec in specs:
            check_spec(kind, str(provider), own_names, spec)
        chosen = [spec for spec in specs if spec.name == provider.name]
        if len(chosen) != 1:
            names = ", ".join(spec.name for spec in specs) or "nothing"
            raise SpecDefect(
                f"{kind.hook} must declare '{provider.name}' once; it declares {names}"
                f"{'' if specs else ' (is @hookimpl missing?)'}"
            )
    except KeyboardInterrupt:
        raise
    except SpecDefect as defect:
        raise _error(kind, provider, str(defect), defect.hint) from None
    except BaseException as error:  # SystemExit at import must not end the server unexplained
        raise _error(kind, provider, cause_of(error), None) from error
    return chosen[0]


def install_hint(kind: str, name: str) -> str:
    """The pip command for a plugin of this project, or how to see what there is."""
    if target := KNOWN_PLUGINS.get((kind, name)):
        return f'pip install "{target}"'
    return "python -m inferflux_core.plugins list"


def repair_hint(kind: str, name: str, distribution: str) -> str:
    """The pip command that most likely repairs a plugin."""
    target = KNOWN_PLUGINS.get((kind, name))
    return f'pip install --upgrade --force-reinstall "{target or distribution}"'


def cause_of(error: BaseException) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _error(kind: Kind[Any], provider: Provider, cause: str, hint: str | None) -> PluginError:
    return PluginError(
        f"{kind.name} plugin '{provider.name}' from {provider} is broken: {cause}",
        hint=hint or repair_hint(kind.name, provider.name, provider.distribution),
    )


def _declared(kind: Kind[SpecT], plugin: object, *, trace: bool) -> Sequence[SpecT]:
    # A registry of its own: no plugin can wrap, delay or break the hooks of another.
    registry = pluggy.PluginManager(hookspecs.PROJECT_NAME)
    registry.add_hookspecs(hookspecs)
    if trace:
        registry.add_hookcall_monitoring(_before, _after)
    registry.register(plugin)
    _refuse_unknown_hooks(registry, plugin)
    results: list[Iterable[SpecT]] = getattr(registry.hook, kind.hook)()
    specs = [spec for result in results for spec in result]
    if trace:
        # The monitor sees a generator; this is what it yielded.
        logger.info("%s declared %r", kind.hook, specs)
    return specs


def _refuse_unknown_hooks(registry: pluggy.PluginManager, plugin: object) -> None:
    for caller in registry.get_hookcallers(plugin) or ():
        if caller.has_spec() or all(impl.optionalhook for impl in caller.get_hookimpls()):
            continue
        hooks = [name for name in hookspecs.__dict__ if name.startswith("inferflux_")]
        near = get_close_matches(caller.name, hooks, n=1)
        suggestion = f"; did you mean {near[0]}?" if near else f"; hooks are {', '.join(hooks)}"
        raise SpecDefect(f"there is no hook {caller.name}{suggestion}")


def _before(
    hook_name: str, hook_impls: Sequence[pluggy.HookImpl], kwargs: Mapping[str, object]
) -> None:
    logger.info("calling %s of %s", hook_name, [impl.plugin_name for impl in hook_impls])


def _after(
    outcome: pluggy.Result[Any],
    hook_name: str,
    hook_impls: Sequence[pluggy.HookImpl],
    kwargs: Mapping[str, object],
) -> None:
    if outcome.exception is not None:
        logger.info("%s raised %r", hook_name, outcome.exception)
    else:
        logger.info("%s returned %r", hook_name, outcome.get_result())
