"""Rules that no type can express. What would be silently ignored is refused."""

from __future__ import annotations

from collections.abc import Iterable

from inferflux_core.config.derived import (
    API_KEYS,
    auth_provider_names,
    guardrail_names,
)
from inferflux_core.config.problems import KeyPath, Problem
from inferflux_core.config.schema import Config, GrpcConfig, ModelConfig
from inferflux_core.errors import ModelLoadError
from inferflux_core.models.reference import default_name

__all__ = ["check"]


def check(config: Config) -> None:
    """Check what spans several keys.

    Raises:
        Problem: the first rule that is broken.
    """
    _check_available(config)
    _check_grpc(config)
    _check_drafting(config)
    _check_api_keys(config)
    _check_auth(config)
    _check_guardrails(config)
    _check_models(config)


def _check_available(config: Config) -> None:
    unavailable: tuple[tuple[KeyPath, bool], ...] = (
        (("guardrails", "opa_endpoint"), config.guardrails.opa_endpoint is not None),
    )
    for path, is_set in unavailable:
        if is_set:
            raise Problem(path, "not available in this version", hint="remove the key")


def _check_grpc(config: Config) -> None:
    server, grpc = config.server, config.server.grpc
    path: KeyPath = ("server", "grpc")
    if grpc.port is None:
        for key in ("host", "tls"):
            if getattr(grpc, key) != getattr(GrpcConfig(), key):
                raise Problem((*path, key), "would have no effect without `server.grpc.port`")
    elif grpc.port == server.port != 0 and grpc.host in (None, server.host):
        raise Problem((*path, "port"), "HTTP has this port; gRPC needs one of its own")
    if (grpc.tls.cert is None) != (grpc.tls.key is None):
        raise Problem((*path, "tls"), "`cert` and `key` go together: set both, or neither")
    if grpc.tls.client_ca is not None and grpc.tls.cert is None:
        raise Problem((*path, "tls", "client_ca"), "would have no effect without `cert` and `key`")


def _check_drafting(config: Config) -> None:
    drafting = config.runtime.speculative_decoding
    unused: tuple[tuple[str, object], ...] = (
        ("draft_model", drafting.enabled or drafting.draft_model is None),
        ("max_prefill_tokens", drafting.draft_model or drafting.max_prefill_tokens is None),
    )
    for key, is_fine in unused:
        if not is_fine:
            needed = "enabled: true" if key == "draft_model" else "a `draft_model`"
            raise Problem(
                ("runtime", "speculative_decoding", key),
                f"would have no effect without {needed}",
                hint="set it, or remove the key",
            )


def _check_api_keys(config: Config) -> None:
    first: dict[str, int] = {}
    for index, entry in enumerate(config.auth.api_keys):
        path: KeyPath = ("auth", "api_keys", index, "key")
        if not entry.key.strip():
            raise Problem(path, "the key is empty")
        if (earlier := first.setdefault(entry.key, index)) != index:
            raise Problem(path, f"the same key as auth.api_keys[{earlier}].key")
        for number, role in enumerate(entry.roles):
            if role not in config.auth.roles:
                known = ", ".join(sorted(config.auth.roles)) or "none"
                raise Problem(
                    ("auth", "api_keys", index, "roles", number),
                    f"there is no role '{role}' in `auth.roles`; there is: {known}",
                )


def _check_auth(config: Config) -> None:
    names = auth_provider_names(config)
    auth = config.auth
    if "oidc" in auth.options:
        raise Problem(("auth", "options", "oidc"), "belongs in `auth.oidc`")
    used: Iterable[tuple[KeyPath, str, bool]] = (
        (("auth", "api_keys"), API_KEYS, bool(auth.api_keys)),
        (("auth", "oidc"), "oidc", auth.oidc is not None),
        *((("auth", "options", name), name, True) for name in auth.options),
    )
    _refuse_ignored(used, names, "auth.providers")


def _check_guardrails(config: Config) -> None:
    guardrails = config.guardrails
    if "blocklist" in guardrails.options:
        raise Problem(("guardrails", "options", "blocklist"), "belongs in `guardrails.blocklist`")
    used: Iterable[tuple[KeyPath, str, bool]] = (
        (("guardrails", "blocklist"), "blocklist", bool(guardrails.blocklist)),
        *((("guardrails", "options", name), name, True) for name in guardrails.options),
    )
    _refuse_ignored(used, guardrail_names(config), "guardrails.enabled")


def _refuse_ignored(
    used: Iterable[tuple[KeyPath, str, bool]], names: tuple[str, ...], list_path: str
) -> None:
    for path, name, is_set in used:
        if is_set and name not in names:
            raise Problem(
                path,
                f"would have no effect: `{list_path}` does not name '{name}'",
                hint=f"add '{name}' to `{list_path}`, or remove the key",
            )


def _check_models(config: Config) -> None:
    if config.models and config.model.path is None and config.model != type(config.model)():
        raise Problem(("model",), "has no path", hint="set `model.path`, or use `models` alone")
    located: list[tuple[KeyPath, ModelConfig]] = [
        (("models", index), model) for index, model in enumerate(config.models)
    ]
    for path, model in located:
        if model.path is None:
            raise Problem(path, "`path` is required here")
    if config.model.path is not None:
        located.insert(0, (("model",), config.model))
    names: set[str] = set()
    for path, model in located:
        name = model.name or _default_name(path, model.path or "")
        if name in names:
            raise Problem(
                path,
                f"a second model would be served as '{name}'",
                hint="give one of them another `name`",
            )
        names.add(name)


def _default_name(path: KeyPath, reference: str) -> str:
    try:
        return default_name(reference)
    except ModelLoadError as error:
        raise Problem((*path, "path"), error.message, hint=error.hint) from error
