"""What can go wrong, as exceptions that carry an exit code and the user's next step."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["ApiError", "CliError", "UnreachableError", "WrongUsageError", "api_error"]

_SCOPE_BY_PREFIX = {
    "/v1/chat": "generate",
    "/v1/completions": "generate",
    "/v1/embeddings": "generate",
    "/v1/responses": "generate",
    "/v1/messages": "generate",
    "/api/chat": "generate",
    "/api/generate": "generate",
    "/api/embed": "generate",
    "/v1/admin/audit": "audit:read",
    "/v1/admin": "policy:write",
    "/v1/load_lora_adapter": "adapters:write",
    "/v1/unload_lora_adapter": "adapters:write",
    "/v1/models/load": "models:write",
    "/v1/models/unload": "models:write",
    "/v1/models/tune": "models:write",
    "/api/pull": "models:write",
    "/api/copy": "models:write",
    "/api/delete": "models:write",
}
_NAMED_SCOPE = re.compile(r"\bscope '([a-z:]+)'")


class CliError(Exception):
    """A failure to report in one line.

    Attributes:
        hint: what the user can do next.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_json(self) -> dict[str, Any]:
        """Return the error object that `--output json` prints."""
        return {"message": self.message, "hint": self.hint, "exit_code": self.exit_code}


class WrongUsageError(CliError):
    """The command line makes no sense."""

    exit_code = 2


class UnreachableError(CliError):
    """No connection could be made."""

    exit_code = 3


class ApiError(CliError):
    """The server answered with an error.

    Attributes:
        status: HTTP status; 200 when the failure came in the middle of a stream.
        body: the server's error object, as far as it sent one.
    """

    def __init__(
        self, message: str, *, status: int, body: Mapping[str, Any], hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.body = dict(body)
        self.exit_code = 4 if status in (401, 403) else 1

    def to_json(self) -> dict[str, Any]:
        """Return the server's own error object with the status and our hint added."""
        return {**self.body, **super().to_json(), "status": self.status}


def api_error(
    status: int, headers: Mapping[str, str], content: str, path: str, method: str = "POST"
) -> ApiError:
    """Turn an error response into an exception.

    Args:
        status: HTTP status; 200 for an error inside a stream.
        headers: response headers, looked up in lower case.
        content: response body, `{"error": {...}}` from a server of ours.
        path: request path; with the method it decides which scope a 403 is about that names none.
        method: of the request.
    """
    body = _error_object(content)
    message = str(body.get("message") or f"HTTP {status} from {path}")
    scope = _scope(method, path, message) if status == 403 else None
    return ApiError(message, status=status, body=body, hint=_hint(status, headers, body, scope))


def _error_object(content: str) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    error = parsed.get("error") if isinstance(parsed, dict) else None
    if isinstance(error, dict):
        return error
    return {"message": error} if isinstance(error, str) else {}


def _hint(
    status: int, headers: Mapping[str, str], body: Mapping[str, Any], scope: str | None
) -> str | None:
    if status == 401:
        return "set INFERCTL_API_KEY or pass --api-key, or log in: inferctl login --help"
    if scope is not None:
        return (
            f"this needs a key with the scope `{scope}`"
            " (auth.api_keys[].scopes on the server, or inferctl admin api-keys)"
        )
    if status in (429, 503):
        after = headers.get("retry-after")
        wait = f"{after} s" if after and after.isdigit() else after
        return f"retry after {wait}" if wait else None
    if body.get("code") == "context_length_exceeded":
        return "shorten the prompt, lower --max-tokens, or use /clear in a chat"
    return None


def _scope(method: str, path: str, message: str) -> str | None:
    """Which scope was missing; None if it was something else."""
    if named := _NAMED_SCOPE.search(message):
        return named[1]
    if message.endswith("is disabled"):
        return None
    scope = next((s for p, s in _SCOPE_BY_PREFIX.items() if path.startswith(p)), "read")
    return "policy:read" if scope == "policy:write" and method == "GET" else scope
