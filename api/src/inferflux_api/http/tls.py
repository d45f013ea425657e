"""Certificates of the HTTP server, which may be renewed while it runs."""

from __future__ import annotations

import asyncio
import logging
import ssl
import stat
from pathlib import Path
from typing import Final

from inferflux_core.config.schema import TlsConfig
from inferflux_core.errors import StartupError

__all__ = ["Certificates", "open_certificates"]

logger = logging.getLogger("inferflux.http")

_LOOK_SECONDS: Final = 2.0

_Files = tuple[tuple[int, int, int], ...]


class Certificates:
    """The certificate that new connections are shown, and whose certificates they have to show.

    Attributes:
        context: for the server; it lives as long as that.

    Args:
        config: with `cert` and `key`.

    Raises:
        StartupError: a file is missing or is not what it should be.
    """

    def __init__(self, config: TlsConfig) -> None:
        assert config.cert is not None
        assert config.key is not None
        self._cert, self._key = config.cert, config.key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        try:
            self._seen = self._files()
            self.context.load_cert_chain(self._cert, self._key)
            if config.client_ca is not None:
                self.context.load_verify_locations(config.client_ca)
                self.context.verify_mode = ssl.CERT_REQUIRED
        except OSError as error:
            files = ", ".join(filter(None, (self._cert, self._key, config.client_ca)))
            raise StartupError(
                f"server.tls: the certificate cannot be used: {_reason(error)}",
                hint=f"check that these are PEM files that belong together: {files}",
            ) from error
        if Path(self._key).stat().st_mode & stat.S_IROTH:
            logger.warning("every account can read server.tls.key; run: chmod o-r %s", self._key)

    async def watch(self) -> None:
        """Load what is renewed, until cancelled; what is broken is logged, and the old one stays."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self._look()

    def _look(self) -> None:
        before = self._seen
        try:
            # What cannot be looked at counts as another file that is broken.
            self._seen = ()
            self._seen = self._files()
            if self._seen != before:
                # In a context of its own first: half of a pair must not get into use.
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._cert, self._key)
                self.context.load_cert_chain(self._cert, self._key)
                logger.info("server.tls: a new certificate is in use")
        except OSError as error:
            if self._seen != before:
                logger.error("server.tls: the old certificate stays in use: %s", _reason(error))

    def _files(self) -> _Files:
        found = (Path(path).stat() for path in (self._cert, self._key))
        return tuple((status.st_ino, status.st_mtime_ns, status.st_size) for status in found)


def open_certificates(config: TlsConfig) -> Certificates | None:
    """The certificates of a configuration; None if it has none. Raises as `Certificates`."""
    return None if config.cert is None else Certificates(config)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").replace("_", " ").lower()
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
