"""RFC 5424 over UDP, TCP (RFC 6587, octets counted) or a Unix socket."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from inferflux_api.governance.audit.records import Entry
from inferflux_core.errors import ConfigError

__all__ = ["SyslogSink", "syslog_message"]

_AUDIT: Final = 13 * 8
_WARNING: Final = 4
_NOTICE: Final = 5
_PORTS: Final = {"udp": 514, "tcp": 601}


class SyslogSink:
    """Sends each record as a message.

    Args:
        url: `udp://HOST:PORT`, `tcp://HOST:PORT` or `unix:///PATH`.
        timeout: seconds for one attempt.

    Raises:
        ConfigError: the address makes no sense.
    """

    def __init__(self, url: str, timeout: float) -> None:
        parts = urlsplit(url)
        self._scheme = parts.scheme
        self._timeout = timeout
        self._socket: socket.socket | None = None
        try:
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError:
            port = 0
        self._address: str | tuple[str, int] = parts.path
        if parts.scheme != "unix":
            self._address = (parts.hostname or "", port)
        if not (parts.path if parts.scheme == "unix" else parts.hostname and port):
            raise ConfigError(f"audit.sinks: {url} names no place to send messages to")

    def send(self, entries: Sequence[Entry]) -> int:
        """Send messages; those that are too long for a datagram will never get through."""
        if self._socket is None:
            self._socket = self._connect()
        refused = 0
        try:
            if self._scheme == "tcp":
                messages = map(syslog_message, entries)
                self._socket.sendall(b"".join(b"%d %b" % (len(m), m) for m in messages))
            else:
                refused = sum(not self._send_one(self._socket, entry) for entry in entries)
        except OSError:
            self.close()
            raise
        return refused

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        if self._scheme == "tcp":
            assert isinstance(self._address, tuple)
            return socket.create_connection(self._address, self._timeout)
        family, address = socket.AF_UNIX, self._address
        if isinstance(self._address, tuple):
            found = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)
            family, address = found[0][0], found[0][4]  # type: ignore[assignment]
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.settimeout(self._timeout)
        try:
            made.connect(address)
        except OSError:
            made.close()
            raise
        return made

    @staticmethod
    def _send_one(connected: socket.socket, entry: Entry) -> bool:
        try:
            connected.send(syslog_message(entry))
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            return False
        return True


_HOST: Final = socket.gethostname()[:255] or "-"


def syslog_message(entry: Entry) -> bytes:
    """A record as a message of facility 13, log audit."""
    priority = _AUDIT + (_WARNING if entry.record.event == "refused" else _NOTICE)
    when = datetime.fromtimestamp(entry.record.time, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    head = f"<{priority}>1 {when} {_HOST} inferflux {os.getpid()} {entry.record.event} - "
    return head.encode() + entry.line
