"""The one exception hierarchy of InferFlux.

Every error a caller can see derives from `InferFluxError` and carries what each dialect needs to
render it: an HTTP status, a machine-readable code and, where it helps, the offending parameter.
Errors an operator sees at start-up derive from `StartupError` and end the process with its message.
"""

from __future__ import annotations

__all__ = [
    "AuthenticationError",
    "AuthenticationUnavailableError",
    "ConfigError",
    "ConflictError",
    "ContextLengthExceededError",
    "EngineError",
    "EngineUnavailableError",
    "GuardrailBlockedError",
    "GuardrailError",
    "InferFluxError",
    "InvalidRequestError",
    "LimitsUnavailableError",
    "ModelInUseError",
    "ModelLoadError",
    "ModelNotFoundError",
    "NotFoundError",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "PluginError",
    "PolicyUnavailableError",
    "PreconditionFailedError",
    "QueueFullError",
    "RateLimitedError",
    "StartupError",
    "error_from",
]


class InferFluxError(Exception):
    """Base of every error a client can receive.

    Attributes:
        status: HTTP status.
        code: stable machine-readable identifier.
        param: the request field at fault, if one is.
        retry_after: seconds after which a retry may succeed, if it may.
        headers: for the response, besides what dialects add.
    """

    status = 500
    code = "internal_error"

    def __init__(
        self, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.headers: dict[str, str] = {}

    @property
    def full_message(self) -> str:
        """The message, and the parameter at fault, for those who have no other place to name it."""
        if self.param is None or self.message.startswith(self.param):
            return self.message
        return f"{self.param}: {self.message}"


class InvalidRequestError(InferFluxError):
    """The request is malformed or a parameter is out of range."""

    status = 400
    code = "invalid_request"


class ContextLengthExceededError(InvalidRequestError):
    """The prompt leaves no room for an answer in the model's context."""

    code = "context_length_exceeded"


class GuardrailBlockedError(InvalidRequestError):
    """A guardrail refused the prompt. The message never repeats what was matched."""

    code = "content_filter"


class AuthenticationError(InferFluxError):
    """No credential, or one that no provider accepts."""

    status = 401
    code = "invalid_api_key"


class AuthenticationUnavailableError(InferFluxError):
    """A credential cannot be checked just now; nobody gets in unchecked."""

    status = 503
    code = "authentication_unavailable"


class PermissionDeniedError(InferFluxError):
    """The principal is known and lacks the scope."""

    status = 403
    code = "insufficient_scope"


class NotFoundError(InferFluxError):
    """No such route or object."""

    status = 404
    code = "not_found"


class ModelNotFoundError(NotFoundError):
    """No model of that name is served here."""

    code = "model_not_found"


class ConflictError(InferFluxError):
    """What is there does not allow it."""

    status = 409
    code = "conflict"


class PreconditionFailedError(InferFluxError):
    """Somebody else was quicker: what was to be changed is no longer what the caller saw."""

    status = 412
    code = "precondition_failed"


class PolicyUnavailableError(InferFluxError):
    """The policy store cannot be read or written just now."""

    status = 503
    code = "policy_unavailable"


class ModelInUseError(InferFluxError):
    """The model cannot be unloaded while requests use it."""

    status = 409
    code = "model_in_use"


class PayloadTooLargeError(InferFluxError):
    """The request body exceeds `server.max_body_bytes`."""

    status = 413
    code = "payload_too_large"


class RateLimitedError(InferFluxError):
    """The caller exceeded its own limit."""

    status = 429
    code = "rate_limit_exceeded"


class LimitsUnavailableError(InferFluxError):
    """Limits cannot be checked; the request is refused rather than let through uncounted."""

    status = 503
    code = "limits_unavailable"


class EngineError(InferFluxError):
    """The engine failed while it worked on this request."""

    code = "engine_error"


class GuardrailError(InferFluxError):
    """A guardrail failed; the request is refused rather than let through unchecked."""

    status = 503
    code = "guardrail_error"


class QueueFullError(InferFluxError):
    """The server is at capacity and its queue is full."""

    status = 503
    code = "overloaded"


class EngineUnavailableError(InferFluxError):
    """The engine is starting, restarting or draining."""

    status = 503
    code = "engine_unavailable"


def error_from(code: str, message: str, param: str | None = None) -> InferFluxError:
    """The error with a code that came over a wire; a plain `EngineError` if no client knows it."""
    kinds: list[type[InferFluxError]] = [InferFluxError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    found = next((kind for kind in kinds if kind.code == code), EngineError)
    return found(message, param=param)


class StartupError(Exception):
    """The server cannot start. `hint` says what to do next."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class ConfigError(StartupError):
    """The configuration is wrong; the message names file, line and path."""


class PluginError(StartupError):
    """A requested plugin is missing, broken or cannot run here."""


class ModelLoadError(StartupError):
    """The model cannot be found, read or fitted into memory."""
