"""The configuration tree. Every key a user can set is a field here; unknown keys are refused."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from inferflux_core.auth import Scope

__all__ = [
    "DEFAULT_POLICY_STORE",
    "AdapterConfig",
    "ApiKeyConfig",
    "AuditConfig",
    "AuditSinkConfig",
    "AuthConfig",
    "Config",
    "FilesConfig",
    "GrpcConfig",
    "GuardrailsConfig",
    "LibraryConfig",
    "LimitsConfig",
    "LoggingConfig",
    "ModelConfig",
    "ModelSigningConfig",
    "NvmeOffloadConfig",
    "PluginsConfig",
    "RateLimitConfig",
    "RuntimeConfig",
    "ServerConfig",
    "SpeculativeDecodingConfig",
    "TlsConfig",
    "json_schema",
]

DEFAULT_POLICY_STORE: Final = "config/policy_store.conf"

PositiveInt = Annotated[int, Meta(ge=1)]
NonNegativeInt = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
Port = Annotated[int, Meta(ge=0, le=65535)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every part of the tree."""


class TlsConfig(Section, frozen=True):
    """Files in PEM form. With `client_ca`, only clients with a certificate of that authority get in."""

    cert: str | None = None
    key: str | None = None
    client_ca: str | None = None


class GrpcConfig(Section, frozen=True):
    """gRPC beside HTTP, on a port of its own; null means none.

    `host` and `tls` are by default those of the server.
    """

    port: Port | None = None
    host: str | None = None
    tls: TlsConfig = TlsConfig()


class ServerConfig(Section, frozen=True):
    """Where and how the server listens."""

    host: str = "127.0.0.1"
    port: Port = 8080
    tls: TlsConfig = TlsConfig()
    grpc: GrpcConfig = GrpcConfig()
    max_body_bytes: PositiveInt = 8 * 1024 * 1024
    max_json_depth: PositiveInt = 64
    receive_timeout: Seconds = 30.0
    drain_timeout: Seconds = 30.0


class AdapterConfig(Section, frozen=True):
    """A LoRA adapter that is loaded with its model, and served as a model of this name."""

    name: str
    path: str


class ModelConfig(Section, frozen=True):
    """One model. `path` is a file or folder, or `pkg://module/file` for weights in a Python package.

    A model that is loaded on demand, or that has an `idle_ttl` in seconds, leaves memory when nobody
    uses it. Adapters are files; those in `adapters_folder` are loaded and unloaded as they come and go.
    Encrypted ones need `adapters_key_file`. `signature` is needed where it is not beside the model.
    """

    path: str | None = None
    name: str | None = None
    signature: str | None = None
    chat_template: str | None = None
    load: Literal["startup", "on_demand"] = "startup"
    idle_ttl: Seconds | None = None
    adapters: list[AdapterConfig] = []
    adapters_folder: str | None = None
    adapters_key_file: str | None = None


class ModelSigningConfig(Section, frozen=True):
    """Whether models and adapters have to be signed with one of these keys, in the OpenSSF format.

    Those that are not are loaded with a warning (`warn`), or not at all (`enforce`).
    """

    mode: Literal["off", "warn", "enforce"] = "off"
    public_keys: list[str] = []


class SpeculativeDecodingConfig(Section, frozen=True):
    """Drafting several tokens ahead, from the text so far, or with a smaller model of the same vocabulary.

    A draft model is not asked about prompts of more than `max_prefill_tokens` tokens.
    """

    enabled: bool = False
    draft_model: str | None = None
    max_prefill_tokens: PositiveInt | None = None
    max_draft_tokens: PositiveInt = 8


class NvmeOffloadConfig(Section, frozen=True):
    """Keeping KV state in a folder on disk, which may grow to `max_bytes`."""

    path: str | None = None
    max_bytes: PositiveInt = 8 * 1024 * 1024 * 1024


class RuntimeConfig(Section, frozen=True):
    """How models are executed."""

    backend: str | None = None
    runner: Literal["auto", "llamacpp", "torch", "mlx"] = "auto"
    scheduler: str = "fcfs"
    scheduler_options: dict[str, Any] = {}
    max_num_seqs: PositiveInt | None = None
    max_model_len: PositiveInt | None = None
    max_num_batched_tokens: Annotated[int, Meta(ge=64)] = 512
    max_queue: NonNegativeInt = 256
    max_inter_token_ms: Annotated[float, Meta(gt=0)] | None = 300.0
    prefix_cache_bytes: NonNegativeInt | None = None
    memory_budget_bytes: PositiveInt | None = None
    share_prefixes_between_tenants: bool = False
    kv_cache_type: Literal["auto", "f16", "bf16", "q8_0"] = "auto"
    weights: Literal["auto", "original", "q8_0", "f16"] = "auto"
    threads: PositiveInt | None = None
    flash_attention: Literal["auto", "on", "off"] = "auto"
    kv_layout: Literal["auto", "streams", "unified"] = "auto"
    gpu_layers: NonNegativeInt | None = None
    mps_layers: NonNegativeInt | None = None
    load_timeout: Seconds = 600.0
    hang_timeout: Seconds = 120.0
    speculative_decoding: SpeculativeDecodingConfig = SpeculativeDecodingConfig()
    nvme_offload: NvmeOffloadConfig = NvmeOffloadConfig()


class ApiKeyConfig(Section, frozen=True):
    """A static key. `key` may be `${env:NAME}` or `${file:/path}`. Roles are those of `auth.roles`."""

    key: str
    scopes: list[Scope]
    roles: list[str] = []
    name: str | None = None
    tenant: str = "default"

    def __repr__(self) -> str:
        """Leave the key out: a representation ends up in logs."""
        return f"ApiKeyConfig(name={self.name!r}, tenant={self.tenant!r}, scopes={self.scopes!r})"


class AuthConfig(Section, frozen=True):
    """Providers are tried in order; `api-keys` is built in. Options of a plugin: `options.<name>`.

    A role is a name for several scopes.
    """

    providers: list[str] | None = None
    roles: dict[str, list[Scope]] = {}
    api_keys: list[ApiKeyConfig] = []
    oidc: dict[str, Any] | None = None
    options: dict[str, dict[str, Any]] = {}

    def __repr__(self) -> str:
        """Leave the plugins' options out: some are secrets, and a representation ends up in logs."""
        return f"AuthConfig(providers={self.providers!r}, roles={self.roles!r})"


class GuardrailsConfig(Section, frozen=True):
    """Guardrails run in the order of `enabled`; options of a guardrail are in `options.<name>`.

    Every guardrail has the options `action` (`flag` and `log` let everything through) and `on_failure`
    (`block` or `allow`).
    """

    enabled: list[str] | None = None
    blocklist: list[str] = []
    opa_endpoint: str | None = None
    options: dict[str, dict[str, Any]] = {}


class LimitsConfig(Section, frozen=True):
    """How much somebody may ask for; null means no limit, or the default where there is one.

    A minute and a day are any 60 seconds and any 24 hours.
    """

    requests_per_minute: PositiveInt | None = None
    tokens_per_minute: PositiveInt | None = None
    concurrent_requests: PositiveInt | None = None
    tokens_per_day: PositiveInt | None = None


class RateLimitConfig(LimitsConfig, frozen=True):
    """Limits of every tenant and, in `per_key`, of every key, with exceptions by name.

    A model's limits are for each tenant. All limits that apply have to be kept. They are counted in memory,
    or in `storage`, a Redis server, for several replicas together.
    """

    per_key: LimitsConfig = LimitsConfig()
    tenants: dict[str, LimitsConfig] = {}
    keys: dict[str, LimitsConfig] = {}
    models: dict[str, LimitsConfig] = {}
    expected_answer_tokens: PositiveInt = 512
    storage: str | None = None
    on_storage_failure: Literal["refuse", "allow"] = "refuse"

    def __repr__(self) -> str:
        """Leave the address of the storage out: it may hold a password."""
        return f"RateLimitConfig(tenants={sorted(self.tenants)}, keys={sorted(self.keys)})"


class AuditSinkConfig(Section, frozen=True):
    """Where copies of the audit records go besides the file.

    `url` begins with `udp://`, `tcp://` or `unix://` for syslog, else with `http://` or `https://`.
    """

    type: Literal["syslog", "otlp", "webhook"]
    url: str
    headers: dict[str, str] = {}
    timeout: Annotated[float, Meta(gt=0)] = 5.0
    max_queue: PositiveInt = 10_000

    def __repr__(self) -> str:
        """Leave the headers out: they hold tokens, and a representation ends up in logs."""
        return f"AuditSinkConfig(type={self.type!r}, url={self.url!r})"


class AuditConfig(Section, frozen=True):
    """Where the audit trail goes, and how safely; a `path` of null means none is kept."""

    path: str | None = None
    signing_key: str | None = None
    strict: bool = True
    prompts: Literal["none", "redacted", "full"] = "none"
    fsync: Literal["always", "interval", "never"] = "interval"
    max_file_bytes: Annotated[int, Meta(ge=4096)] = 64 * 1024 * 1024
    keep_days: PositiveInt | None = None
    sinks: list[AuditSinkConfig] = []


class LibraryConfig(Section, frozen=True):
    """A folder for models that are pulled and created while the server runs; null means there is none."""

    path: str | None = None
    registry: str = "https://registry.ollama.ai"
    hugging_face: str = "https://huggingface.co"
    max_blob_bytes: PositiveInt = 256 * 1024 * 1024 * 1024


class FilesConfig(Section, frozen=True):
    """Uploaded files and batches; null keeps them in a temporary folder until the server ends."""

    path: str | None = None
    max_bytes: PositiveInt = 1024 * 1024 * 1024
    max_file_bytes: PositiveInt = 200 * 1024 * 1024


class PluginsConfig(Section, frozen=True):
    """How the plugin system behaves."""

    strict: bool = False
    trace: bool = False


class LoggingConfig(Section, frozen=True):
    """What goes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class Config(Section, frozen=True):
    """The whole tree."""

    server: ServerConfig = ServerConfig()
    model: ModelConfig = ModelConfig()
    models: list[ModelConfig] = []
    model_signing: ModelSigningConfig = ModelSigningConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    auth: AuthConfig = AuthConfig()
    guardrails: GuardrailsConfig = GuardrailsConfig()
    rate_limit: RateLimitConfig = RateLimitConfig()
    audit: AuditConfig = AuditConfig()
    policy_store: str | None = DEFAULT_POLICY_STORE
    files: FilesConfig = FilesConfig()
    library: LibraryConfig = LibraryConfig()
    plugins: PluginsConfig = PluginsConfig()
    logging: LoggingConfig = LoggingConfig()


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the configuration file, for editors and for validation in CI."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "InferFlux server configuration",
        **msgspec.json.schema(Config),
    }
