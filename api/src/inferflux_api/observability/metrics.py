"""What Prometheus sees. Labels come from the configuration alone, so their number is bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from inferflux_core.engine.protocol import EngineStats

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LABELS = ("model", "backend")
_FIRST_TOKEN_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60,
)  # fmt: skip
_TOKEN_BUCKETS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    1,
    2.5,
)
_DURATION_BUCKETS = (
    0.01,
    0.02,
    0.04,
    0.08,
    0.16,
    0.32,
    0.64,
    1.28,
    2.56,
    5.12,
    10.24,
    20.48,
    40.96,
    81.92,
)

Loads = Callable[[], Iterable[tuple[str, str, bool, EngineStats]]]


_ENGINE_METRICS: Final[
    tuple[tuple[type[GaugeMetricFamily] | type[CounterMetricFamily], str, str, str], ...]
] = (
    (GaugeMetricFamily, "requests_running", "Requests being computed", "num_running"),
    (GaugeMetricFamily, "requests_waiting", "Requests in the queue", "num_waiting"),
    (GaugeMetricFamily, "kv_cache_usage_ratio", "Share of KV cells in use, 0 to 1", "kv_usage"),
    (CounterMetricFamily, "prefix_cache_queries", "Blocks of prompts looked up", "prefix_queries"),
    (CounterMetricFamily, "prefix_cache_hits", "Blocks of prompts found", "prefix_hits"),
    (GaugeMetricFamily, "prefix_cache_blocks", "Blocks kept in memory", "memory_blocks"),
    (GaugeMetricFamily, "prefix_cache_bytes", "Size of the blocks in memory", "memory_bytes"),
    (GaugeMetricFamily, "kv_disk_bytes", "Size of the blocks on disk", "disk_bytes"),
    (CounterMetricFamily, "kv_disk_hits", "Blocks read back from disk", "disk_hits"),
    (
        CounterMetricFamily,
        "kv_disk_errors",
        "Block files that were damaged or foreign, and failed writes",
        "disk_errors",
    ),
    (
        CounterMetricFamily,
        "requests_preempted",
        "Times that a request gave up its slot for a while",
        "num_preempted",
    ),
    (CounterMetricFamily, "draft_tokens", "Tokens guessed ahead", "num_drafted"),
    (
        CounterMetricFamily,
        "draft_tokens_accepted",
        "Guessed tokens that the model agreed with",
        "num_accepted",
    ),
    (
        GaugeMetricFamily,
        "drafters_failed",
        "Ways to guess tokens that failed and are not used any more",
        "num_failed_drafters",
    ),
)
"""What engines count: kind, name, help, and the attribute of `EngineStats`."""


class _EngineLoad(Collector):
    """Reads gauges at scrape time instead of keeping copies up to date."""

    def __init__(self, loads: Loads) -> None:
        self._loads = loads

    def collect(self) -> Iterable[Metric]:
        """One sample per engine and metric."""
        up = GaugeMetricFamily(
            "inferflux_engine_up", "Whether the engine answers requests", labels=_LABELS
        )
        families = [
            (kind(f"inferflux_{name}", help_text, labels=_LABELS), attribute)
            for kind, name, help_text, attribute in _ENGINE_METRICS
        ]
        for model, backend, ready, stats in self._loads():
            up.add_metric((model, backend), ready)
            for family, attribute in families:
                family.add_metric((model, backend), getattr(stats, attribute))
        return [up, *(family for family, _ in families)]


class Metrics:
    """The metrics of one server."""

    def __init__(self, loads: Loads) -> None:
        self._registry = registry = CollectorRegistry()
        registry.register(_EngineLoad(loads))
        self.requests = Counter(
            "inferflux_requests",
            "Requests by outcome: stop, length, content_filter, error, abort or refused",
            (*_LABELS, "outcome"),
            registry=registry,
        )
        self.errors = Counter(
            "inferflux_errors",
            "Responses with an error, by its code",
            ("code",),
            registry=registry,
        )
        self.guardrail_findings = Counter(
            "inferflux_guardrail_findings",
            "Texts that a guardrail objected to, by what it did: block, mask, flag or log",
            ("guardrail", "action", "direction"),
            registry=registry,
        )
        self.guardrail_failures = Counter(
            "inferflux_guardrail_failures",
            "Failures of guardrails, by what became of the text: block or allow",
            ("guardrail", "action", "direction"),
            registry=registry,
        )
        self.audit_failures = Counter(
            "inferflux_audit_failures",
            "Records that could not be written to the audit log",
            registry=registry,
        )
        self.audit_suppressed = Counter(
            "inferflux_audit_suppressed",
            "Refusals that were too many to be noted one by one",
            ("kind",),
            registry=registry,
        )
        self.audit_dropped = Counter(
            "inferflux_audit_dropped",
            "Audit records that a sink did not get",
            ("sink",),
            registry=registry,
        )
        self.policy_generation = Gauge(
            "inferflux_policy_generation",
            "Generation of the policy in force; the same on all replicas within a second",
            registry=registry,
        )
        self.policy_age = Gauge(
            "inferflux_policy_age_seconds",
            "Since the policy in force was last known to be the newest",
            registry=registry,
        )
        self.prompt_tokens = Counter(
            "inferflux_prompt_tokens", "Prompt tokens processed", _LABELS, registry=registry
        )
        self.output_tokens = Counter(
            "inferflux_output_tokens", "Tokens generated", _LABELS, registry=registry
        )
        self.restarts = Counter(
            "inferflux_engine_restarts", "Engine processes replaced", _LABELS, registry=registry
        )
        self.first_token = Histogram(
            "inferflux_time_to_first_token_seconds",
            "From the arrival of a request to its first token",
            _LABELS,
            buckets=_FIRST_TOKEN_BUCKETS,
            registry=registry,
        )
        self.inter_token = Histogram(
            "inferflux_inter_token_latency_seconds",
            "Between two tokens of a choice",
            _LABELS,
            buckets=_TOKEN_BUCKETS,
            registry=registry,
        )
        self.duration = Histogram(
            "inferflux_request_duration_seconds",
            "From the arrival of a request to its last token",
            _LABELS,
            buckets=_DURATION_BUCKETS,
            registry=registry,
        )

    def render(self) -> bytes:
        """The exposition in Prometheus' text format."""
        return generate_latest(self._registry)
