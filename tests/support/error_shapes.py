"""How each dialect says that it refuses a request."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["assert_refusal", "dialect_of"]

_TEXT_OR_NONE = (str, type(None))


def dialect_of(path: str) -> str:
    """The dialect of a path, by the clients that use it."""
    if path.startswith("/v1/messages"):
        return "anthropic"
    if path.startswith(("/api/v0/", "/api/v1/", "/lmstudio-greeting")):
        return "lmstudio"
    return "ollama" if path.startswith("/api/") else "openai"


def assert_refusal(path: str, content_type: str, body: bytes) -> str:
    """Check the body of an answer with an error status; returns its message."""
    assert content_type.startswith("application/json"), (path, content_type, body)
    content = json.loads(body)
    message = _READERS[dialect_of(path)](content)
    assert isinstance(message, str), (path, content)
    assert message, (path, content)
    for leak in ("Traceback", "object at 0x"):
        assert leak not in message, (path, content)
    return message


def _openai(content: Any) -> Any:
    error = content["error"]
    assert content.keys() == {"error"}, content
    assert error.keys() == {"message", "type", "param", "code"}, content
    assert isinstance(error["type"], str), content
    assert isinstance(error["code"], _TEXT_OR_NONE), content
    assert isinstance(error["param"], _TEXT_OR_NONE), content
    return error["message"]


def _anthropic(content: Any) -> Any:
    assert content.keys() == {"type", "error", "request_id"}, content
    assert content["type"] == "error", content
    assert content["error"].keys() == {"type", "message"}, content
    assert content["error"]["type"].endswith(("_error", "_too_large")), content
    return content["error"]["message"]


def _ollama(content: Any) -> Any:
    assert content.keys() == {"error"}, content
    return content["error"]


def _lmstudio(content: Any) -> Any:
    assert content.keys() == {"error"}, content
    assert content["error"].keys() == {"type", "message", "code", "param"}, content
    return content["error"]["message"]


_READERS = {
    "openai": _openai,
    "anthropic": _anthropic,
    "ollama": _ollama,
    "lmstudio": _lmstudio,
}
