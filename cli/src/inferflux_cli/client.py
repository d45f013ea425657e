"""The HTTP side: requests to the server, its streams, and its failures as `CliError`."""

from __future__ import annotations

import json
import ssl
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote

import httpx2

from inferflux_cli.addresses import is_loopback
from inferflux_cli.errors import ApiError, CliError, UnreachableError, api_error
from inferflux_cli.event_stream import StreamEvent, read_events
from inferflux_cli.login.session import credential
from inferflux_cli.settings import Settings
from inferflux_cli.shapes import as_objects, json_object

__all__ = ["Client"]

_CONNECT_SECONDS = 5.0
_START_HINT = (
    "is the server running? start it with: inferfluxd --config config/server.yaml"
    " (or point --host, --port or --url at another one)"
)
_CLIENT_CERT_HINT = "if the server asks for a certificate, give --client-cert and --client-key"


class Client:
    """One server, spoken to in the OpenAI dialect. Use it as a context manager.

    Every method raises `UnreachableError` without a connection, `ApiError` for an error answer
    and `CliError` for an answer that makes no sense.
    """

    def __init__(self, settings: Settings) -> None:
        self.url = settings.url
        encrypted = settings.url.startswith("https:")
        self._may_lack_certificate = encrypted and settings.client_cert is None
        self._timeout = settings.timeout
        key = credential(settings)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx2.Client(
            base_url=settings.url,
            headers=headers,
            timeout=httpx2.Timeout(
                settings.timeout, connect=min(settings.timeout, _CONNECT_SECONDS)
            ),
            # A key meant for this machine must not travel through a proxy of the environment.
            trust_env=not is_loopback(httpx2.URL(settings.url).host),
            verify=_tls_context(settings) if encrypted else True,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get_text(self, path: str) -> str:
        """Return the body of a successful GET."""
        return self._text("GET", path)

    def get_json(self, path: str) -> dict[str, Any]:
        """Return the JSON object of a successful GET."""
        return json_object(self.get_text(path))

    def probe(self, path: str) -> tuple[int, dict[str, Any]]:
        """Return status and JSON object of a health route, `{}` where it sends no object."""
        with self._transport():
            response = self._http.get(path)
        if response.status_code in (401, 403):
            self._check(response, path)
        with suppress(CliError):
            return response.status_code, json_object(response.text)
        return response.status_code, {}

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send `body` and return the JSON object of the answer."""
        return json_object(self.post_text(path, body))

    def post_text(self, path: str, body: dict[str, Any]) -> str:
        """Send `body` and return the answer as it is."""
        return self._text("POST", path, body)

    def delete_text(self, path: str, body: dict[str, Any] | None = None) -> str:
        """Delete, perhaps what `body` names, and return the answer as it is."""
        return self._text("DELETE", path, body)

    def change(
        self, method: str, path: str, body: dict[str, Any] | None, generation: int | None
    ) -> dict[str, Any]:
        """Change what has generations, if it still is of the one given, and return the answer's object."""
        headers = None if generation is None else {"If-Match": f'"{generation}"'}
        return json_object(self._text(method, path, body, headers))

    @contextmanager
    def stream(
        self, path: str, body: dict[str, Any], *, last: Collection[str] = ()
    ) -> Iterator[Iterator[dict[str, Any]]]:
        """Send `body` with `stream: true` and yield the chunks of the answer.

        Leaving the context closes the connection, by which the server learns to stop.

        Args:
            path: of the request.
            body: of the request.
            last: the `type` of chunks after which nothing comes, where no `[DONE]` says so.
        """
        with self.watch(path, _encode({**body, "stream": True})) as events:
            yield _chunks(events, path, last)

    @contextmanager
    def watch(self, path: str, content: bytes | None) -> Iterator[Iterator[StreamEvent]]:
        """POST `content`, JSON, or GET where there is none, and yield the events that come."""
        method = "GET" if content is None else "POST"
        headers = _STREAM if content is None else _STREAM | _JSON
        with (
            self._transport(),
            self._http.stream(method, path, content=content, headers=headers) as response,
        ):
            if response.status_code != 200:
                response.read()
                self._check(response, path)
            yield read_events(response)

    def models(self) -> list[dict[str, Any]]:
        """Return what the server lists under `/v1/models`."""
        return as_objects(self.get_json("/v1/models").get("data"))

    def model(self, name: str) -> dict[str, Any]:
        """Return one model's entry."""
        return self.get_json(f"/v1/models/{quote(name, safe='/')}")

    def default_model(self) -> str | None:
        """Return the first listed model; None where the key may generate but not list.

        Without a name the server decides, and its error is as good as ours would be.
        """
        try:
            return next((str(m["id"]) for m in self.models() if "id" in m), None)
        except ApiError as error:
            if error.status == 403:
                return None
            raise

    def _text(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> str:
        content, kind = (None, {}) if body is None else (_encode(body), _JSON)
        with self._transport():
            response = self._http.request(
                method, path, content=content, headers=kind | (headers or {})
            )
        self._check(response, path)
        return response.text

    def _check(self, response: httpx2.Response, path: str) -> None:
        if response.status_code == 200:
            return
        method = response.request.method
        error = api_error(response.status_code, response.headers, response.text, path, method)
        if response.status_code == 404 and error.body.get("code") == "model_not_found":
            with suppress(CliError):
                names = ", ".join(str(m.get("id")) for m in self.models())
                error.hint = f"available models: {names or 'none'}"
        raise error

    @contextmanager
    def _transport(self) -> Iterator[None]:
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            reason = str(error) or "timed out"
            raise UnreachableError(
                f"cannot connect to {self.url}: {reason}", hint=_hint_for(reason)
            ) from error
        except httpx2.TimeoutException as error:
            raise CliError(
                f"no answer from {self.url} for {self._timeout:g} s", hint="raise --timeout"
            ) from error
        except (httpx2.RequestError, httpx2.InvalidURL) as error:
            # With TLS 1.3 a server that wants to see a certificate just closes the connection.
            hint = _CLIENT_CERT_HINT if self._may_lack_certificate else None
            raise CliError(f"the connection to {self.url} broke: {error}", hint=hint) from error


def _tls_context(settings: Settings) -> ssl.SSLContext:
    """Whom to trust, and what to show.

    Raises:
        CliError: a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.client_cert is not None:
            context.load_cert_chain(*settings.client_cert)
    except OSError as error:
        files = ", ".join(filter(None, (settings.ca_file, *(settings.client_cert or ()))))
        raise CliError(
            f"a file for TLS cannot be used: {error.strerror or error}",
            hint=f"check that these are there, in PEM form, and belong together: {files}",
        ) from error
    return context


def _hint_for(reason: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in reason and "ostname" in reason:
        return "use the name that the certificate is for"
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return "if you trust the server, give the authority of its certificate with --ca-file"
    if "CERTIFICATE_REQUIRED" in reason:
        return _CLIENT_CERT_HINT
    if "WRONG_VERSION_NUMBER" in reason or "RECORD_LAYER" in reason:
        return "the server speaks plain HTTP there: use http://"
    return _START_HINT


_JSON = {"Content-Type": "application/json"}
_STREAM = {"Accept": "text/event-stream, application/x-ndjson, application/json"}


def _encode(body: dict[str, Any]) -> bytes:
    # ASCII escapes carry even the lone surrogates that stand for undecodable argument bytes.
    return json.dumps(body).encode("ascii")


def _chunks(
    events: Iterator[StreamEvent], path: str, last: Collection[str]
) -> Iterator[dict[str, Any]]:
    for event in events:
        if event.data.strip() == "[DONE]":
            return
        chunk = json_object(event.data)
        if chunk.get("error"):
            raise api_error(200, {}, event.data, path)
        yield chunk
        if chunk.get("type") in last:
            return
    raise CliError("the server closed the stream before the answer was complete")
