"""Rules that no type can express. What would be silently ignored is refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from inferflux_core.config.derived import (
    API_KEYS,
    auth_provider_names,
    guardrail_names,
)
from inferflux_core.config.problems import KeyPath, Problem
from inferflux_core.config.schema import AuditConfig, Config, GrpcConfig, ModelConfig
from inferflux_core.errors import ModelLoadError
from inferflux_core.models.reference import default_name

__all__ = ["check"]


def check(config: Config) -> None:
    """Check what spans several keys.

    Raises:
        Problem: the first rule that is broken.
    """
    _check_grpc(config)
    _check_drafting(config)
    _check_api_keys(config)
    _check_auth(config)
    _check_guardrails(config)
    _check_audit(config)
    _check_limits(config)
    _check_models(config)
    _check_signing(config)


def _check_grpc(config: Config) -> None:
    server, grpc = config.server, config.server.grpc
    path: KeyPath = ("server", "grpc")
    if grpc.port is None:
        for key in ("host", "tls"):
            if getattr(grpc, key) != getattr(GrpcConfig(), key):
                raise Problem((*path, key), "would have no effect without `server.grpc.port`")
    elif grpc.port == server.port != 0 and grpc.host in (None, server.host):
        raise Problem((*path, "port"), "HTTP has this port; gRPC needs one of its own")
    for tls, where in ((server.tls, ("server", "tls")), (grpc.tls, (*path, "tls"))):
        if (tls.cert is None) != (tls.key is None):
            raise Problem(where, "`cert` and `key` go together: set both, or neither")
        if tls.client_ca is not None and tls.cert is None:
            raise Problem((*where, "client_ca"), "would have no effect without `cert` and `key`")


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
    for name, key in (("blocklist", "words"), ("opa", "endpoint")):
        if key in guardrails.options.get(name, {}):
            place = "blocklist" if name == "blocklist" else "opa_endpoint"
            raise Problem(("guardrails", "options", name, key), f"belongs in `guardrails.{place}`")
    for name, options in guardrails.options.items():
        if options.get("on_failure", "block") not in ("block", "allow"):
            raise Problem(
                ("guardrails", "options", name, "on_failure"), "is neither `block` nor `allow`"
            )
    used: Iterable[tuple[KeyPath, str, bool]] = (
        (("guardrails", "blocklist"), "blocklist", bool(guardrails.blocklist)),
        (("guardrails", "opa_endpoint"), "opa", guardrails.opa_endpoint is not None),
        *((("guardrails", "options", name), name, True) for name in guardrails.options),
    )
    _refuse_ignored(used, guardrail_names(config), "guardrails.enabled")


_SINK_SCHEMES: Final = {
    "syslog": ("udp", "tcp", "unix"),
    "otlp": ("http", "https"),
    "webhook": ("http", "https"),
}


def _check_audit(config: Config) -> None:
    audit = config.audit
    if audit.path is None:
        for key in AuditConfig.__struct_fields__:
            if getattr(audit, key) != getattr(AuditConfig(), key):
                raise Problem(("audit", key), "would have no effect without `audit.path`")
    if audit.prompts == "redacted" and not guardrail_names(config) and config.policy_store is None:
        raise Problem(("audit", "prompts"), "without guardrails nothing would be redacted")
    for index, sink in enumerate(audit.sinks):
        path: KeyPath = ("audit", "sinks", index)
        scheme, _, rest = sink.url.partition("://")
        schemes = _SINK_SCHEMES[sink.type]
        if scheme not in schemes or not rest:
            expected = ", ".join(f"{known}://" for known in schemes)
            raise Problem((*path, "url"), f"begins with none of {expected}")
        if sink.type == "syslog" and sink.headers:
            raise Problem((*path, "headers"), "would have no effect: syslog has none")


_STORAGE_SCHEMES: Final = ("redis", "rediss", "unix")


def _check_limits(config: Config) -> None:
    limits = config.rate_limit
    path: KeyPath = ("rate_limit",)
    if limits.storage is None:
        if limits.on_storage_failure != "refuse":
            raise Problem((*path, "on_storage_failure"), "would have no effect without a `storage`")
        return
    scheme, _, rest = limits.storage.partition("://")
    if scheme not in _STORAGE_SCHEMES or not rest:
        expected = ", ".join(f"{known}://" for known in _STORAGE_SCHEMES)
        raise Problem(
            (*path, "storage"), f"begins with none of {expected}", hint="redis://localhost:6379/0"
        )


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


def _check_signing(config: Config) -> None:
    signing, path = config.model_signing, ("model_signing", "public_keys")
    if signing.mode != "off" and not signing.public_keys:
        raise Problem(
            path,
            f"`mode: {signing.mode}` needs at least one",
            hint="make one with: inferctl models keygen --out FILE",
        )
    if signing.mode != "off":
        return
    if signing.public_keys:
        raise Problem(path, "would have no effect without `mode: warn` or `mode: enforce`")
    places: list[tuple[KeyPath, ModelConfig]] = [(("model",), config.model)]
    places += [(("models", index), model) for index, model in enumerate(config.models)]
    for place, model in places:
        if model.signature is not None:
            raise Problem(
                (*place, "signature"), "would have no effect without `model_signing.mode`"
            )


def _default_name(path: KeyPath, reference: str) -> str:
    try:
        return default_name(reference)
    except ModelLoadError as error:
        raise Problem((*path, "path"), error.message, hint=error.hint) from error
