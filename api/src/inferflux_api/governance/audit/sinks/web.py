"""Records over HTTP: as OpenTelemetry logs, or as JSON lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import httpx2
import msgspec

from inferflux_api.governance.audit.records import Entry
from inferflux_api.governance.audit.sinks.sink import SinkUnavailableError

__all__ = ["HttpSink", "json_lines", "otlp_logs"]

_RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})
_INFO: Final = 9
_WARN: Final = 13

Body = Callable[[Sequence[Entry]], tuple[str, bytes]]


class HttpSink:
    """Posts batches.

    Args:
        url: where to.
        headers: sent with each request.
        timeout: seconds for one attempt.
        body: content type and bytes of a batch.
    """

    def __init__(self, url: str, headers: Mapping[str, str], timeout: float, body: Body) -> None:
        self._url = url
        self._body = body
        self._client = httpx2.Client(headers=dict(headers), timeout=timeout, trust_env=False)

    def send(self, entries: Sequence[Entry]) -> int:
        """Post a batch; one that is refused for good is not sent again."""
        content_type, body = self._body(entries)
        try:
            response = self._client.post(
                self._url, content=body, headers={"content-type": content_type}
            )
        except httpx2.HTTPError as error:
            raise SinkUnavailableError from error
        if response.status_code in _RETRIED:
            wait = response.headers.get("retry-after", "")
            raise SinkUnavailableError(float(wait) if wait.isdecimal() else None)
        return _rejected(response) if response.is_success else len(entries)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def json_lines(entries: Sequence[Entry]) -> tuple[str, bytes]:
    """The records as they are in the file."""
    return "application/x-ndjson", b"".join(entry.line + b"\n" for entry in entries)


def otlp_logs(entries: Sequence[Entry]) -> tuple[str, bytes]:
    """The records as an `ExportLogsServiceRequest`, in JSON."""
    scope = {"scope": {"name": "inferflux.audit"}, "logRecords": [*map(_log_record, entries)]}
    resource = {"attributes": [_attribute("service.name", "inferflux")]}
    request = {"resourceLogs": [{"resource": resource, "scopeLogs": [scope]}]}
    return "application/json", msgspec.json.encode(request)


def _log_record(entry: Entry) -> dict[str, Any]:
    record = entry.record
    number = _WARN if record.event == "refused" else _INFO
    return {
        "timeUnixNano": str(int(record.time * 1e9)),
        "severityNumber": number,
        "severityText": "WARN" if number == _WARN else "INFO",
        "eventName": f"inferflux.audit.{record.event}",
        "body": {"stringValue": entry.line.decode()},
        "attributes": [
            _attribute("enduser.id", record.subject),
            _attribute("inferflux.tenant", record.tenant),
            _attribute("inferflux.audit.seq", str(record.seq)),
        ],
    }


def _attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


class _Partial(msgspec.Struct):
    rejectedLogRecords: int | str = 0  # noqa: N815 - as it is on the wire


class _Answer(msgspec.Struct):
    partialSuccess: _Partial | None = None  # noqa: N815 - as it is on the wire


def _rejected(response: httpx2.Response) -> int:
    """What a collector took from us and did not keep."""
    try:
        answer = msgspec.json.decode(response.content, type=_Answer)
        return int(answer.partialSuccess.rejectedLogRecords) if answer.partialSuccess else 0
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        return 0
