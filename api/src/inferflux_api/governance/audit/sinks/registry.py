"""Sinks by the names that the configuration has for them."""

from __future__ import annotations

from inferflux_api.governance.audit.sinks.sink import Sink
from inferflux_api.governance.audit.sinks.syslog import SyslogSink
from inferflux_api.governance.audit.sinks.web import HttpSink, json_lines, otlp_logs
from inferflux_core.config.schema import AuditSinkConfig

__all__ = ["open_sink"]


def open_sink(config: AuditSinkConfig) -> Sink:
    """The sink that is configured.

    Raises:
        ConfigError: its address makes no sense.
    """
    if config.type == "syslog":
        return SyslogSink(config.url, config.timeout)
    body = otlp_logs if config.type == "otlp" else json_lines
    return HttpSink(config.url, config.headers, config.timeout, body)
