"""The HTTP side: requests to the server, its streams, and its failures as `CliError`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote

import httpx2

from inferflux_cli.errors import ApiError, CliError, UnreachableError, api_error
from inferflux_cli.settings import Settings

__all__ = ["Client"]

_CONNECT_SECONDS = 5.0
_START_HINT = (
    "is the server running? start it with: inferfluxd --config config/server.yaml"
    " (or point --host, --port or --url at another one)"
)


class Client:
    """One server, spoken to in the OpenAI dialect. Use it as a context manager.

    Every method raises `UnreachableError` without a connection, `ApiError` for an error answer
    and `CliError` for an answer that makes no sense.
    """

    def __init__(self, settings: Settings) -> None:
        self.url = settings.url
        self._timeout = settings.timeout
        headers = {"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
        self._http = httpx2.Client(
            base_url=settings.url,
            headers=headers,
            timeout=httpx2.Timeout(
                settings.timeout, connect=min(settings.timeout, _CONNECT_SECONDS)
            ),
            # A key meant for this machine must not travel through a proxy of the environment.
            trust_env=not _is_loopback(httpx2.URL(settings.url).host),
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get_text(self, path: str) -> str:
        """Return the body of a successful GET."""
        with self._transport():
            response = self._http.get(path)
        self._check(response, path)
        return response.text

    def get_json(self, path: str) -> dict[str, Any]:
        """Return the JSON object of a successful GET."""
        return _json_object(self.get_text(path))

    def probe(self, path: str) -> tuple[int, dict[str, Any]]:
        """Return status and JSON object of a health route, `{}` where it sends no object."""
        with self._transport():
            response = self._http.get(path)
        if response.status_code in (401, 403):
            self._check(response, path)
        with suppress(CliError):
            return response.status_code, _json_object(response.text)
        return response.status_code, {}

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send `body` and return the JSON object of the answer."""
        return _json_object(self.post_text(path, body))

    def post_text(self, path: str, body: dict[str, Any]) -> str:
        """Send `body` and return the answer as it is."""
        with self._transport():
            response = self._http.post(path, content=_encode(body), headers=_JSON)
        self._check(response, path)
        return response.text

    @contextmanager
    def stream(self, path: str, body: dict[str, Any]) -> Iterator[Iterator[dict[str, Any]]]:
        """Send `body` with `stream: true` and yield the chunks of the answer.

        Leaving the context closes the connection, by which the server learns to stop.
        """
        content = _encode({**body, "stream": True})
        with (
            self._transport(),
            self._http.sse(path, method="POST", content=content, headers=_JSON) as events,
        ):
            if events.response.status_code != 200:
                events.response.read()
                self._check(events.response, path)
            yield _chunks(events, path)

    def models(self) -> list[dict[str, Any]]:
        """Return what the server lists under `/v1/models`."""
        listed = self.get_json("/v1/models").get("data")
        return [m for m in listed if isinstance(m, dict)] if isinstance(listed, list) else []

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

    def _check(self, response: httpx2.Response, path: str) -> None:
        if response.status_code == 200:
            return
        error = api_error(response.status_code, response.headers, response.text, path)
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
                f"cannot connect to {self.url}: {reason}", hint=_START_HINT
            ) from error
        except httpx2.TimeoutException as error:
            raise CliError(
                f"no answer from {self.url} for {self._timeout:g} s", hint="raise --timeout"
            ) from error
        except httpx2.SSEError as error:
            raise CliError(f"{self.url} did not send an event stream", hint=_WRONG) from error
        except (httpx2.RequestError, httpx2.InvalidURL) as error:
            raise CliError(f"the connection to {self.url} broke: {error}") from error


_JSON = {"Content-Type": "application/json"}
_WRONG = "does the address belong to an InferFlux server?"


def _encode(body: dict[str, Any]) -> bytes:
    # ASCII escapes carry even the lone surrogates that stand for undecodable argument bytes.
    return json.dumps(body).encode("ascii")


def _json_object(text: str) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        value = json.loads(text)
        if isinstance(value, dict):
            return value
    raise CliError("the server's answer is not a JSON object", hint=_WRONG)


def _chunks(events: httpx2.EventSource, path: str) -> Iterator[dict[str, Any]]:
    for event in events:
        if event.data.strip() == "[DONE]":
            return
        chunk = _json_object(event.data)
        if chunk.get("error"):
            raise api_error(200, {}, event.data, path)
        yield chunk
    raise CliError("the server closed the stream before the answer was complete")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
