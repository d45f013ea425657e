"""The frames between the API process and an engine process: a length, then msgpack.

One frame carries everything a pass produced, for all requests, so that neither side does work per token
beyond what the token itself needs.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import msgspec

from inferflux_core.config.schema import ModelConfig, PluginsConfig, RuntimeConfig
from inferflux_core.engine.sampling_params import SamplingParams

__all__ = [
    "HEADER",
    "MAX_FRAME_BYTES",
    "Abort",
    "ChatPrompt",
    "Command",
    "EngineStats",
    "Event",
    "Generate",
    "LoadFailed",
    "LoadModel",
    "ModelInfo",
    "Outputs",
    "Ping",
    "Pong",
    "Prompt",
    "Ready",
    "RequestOutput",
    "Shutdown",
    "TextPrompt",
    "TokenPrompt",
    "TokenReport",
    "decode_command",
    "decode_event",
    "encode_frame",
]

HEADER: Final = struct.Struct("<I")
MAX_FRAME_BYTES: Final = 256 * 1024 * 1024


class _Frame(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag=True):
    """Base of everything that crosses the socket."""


class TextPrompt(_Frame, frozen=True):
    """A prompt as text; the model's special tokens are added around it."""

    text: str


class TokenPrompt(_Frame, frozen=True):
    """A prompt as token ids, taken as it is."""

    token_ids: list[int]


class ChatPrompt(_Frame, frozen=True):
    """A conversation, to be rendered by the model's own template in the engine process.

    `messages` and `tools` have the shapes that Hugging Face chat templates expect.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    options: dict[str, Any] = {}


Prompt = TextPrompt | TokenPrompt | ChatPrompt


class LoadModel(_Frame, frozen=True):
    """The first frame an engine process receives. `model.path` is a file on this machine."""

    model: ModelConfig
    backend: str
    runtime: RuntimeConfig
    plugins: PluginsConfig


class Generate(_Frame, frozen=True):
    """Start a generation; prefixes are shared among requests with the same `cache_salt`."""

    request_id: int
    prompt: Prompt
    params: SamplingParams
    cache_salt: str = ""


class Abort(_Frame, frozen=True):
    """Stop a generation; nothing is answered."""

    request_id: int


class Ping(_Frame, frozen=True):
    """Are you alive?"""


class Shutdown(_Frame, frozen=True):
    """End the process."""


Command = LoadModel | Generate | Abort | Ping | Shutdown


class ModelInfo(_Frame, frozen=True):
    """What was loaded."""

    name: str
    backend: str
    device: str
    vocab_size: int
    max_model_len: int
    max_num_seqs: int
    has_chat_template: bool
    details: dict[str, str] = {}


class EngineStats(_Frame, frozen=True):
    """Load of an engine.

    Attributes:
        num_running: requests being computed.
        num_waiting: requests in the queue.
        kv_usage: share of KV cells in use, 0 to 1.
        prefix_queries: blocks of prompts looked up in the prefix cache since the start.
        prefix_hits: those that were found.
    """

    num_running: int = 0
    num_waiting: int = 0
    kv_usage: float = 0.0
    prefix_queries: int = 0
    prefix_hits: int = 0


class TokenReport(_Frame, frozen=True):
    """A generated token and the likeliest alternatives, with natural log-probabilities."""

    token_id: int
    piece: bytes
    logprob: float
    alternatives: list[tuple[bytes, float]] = []


class RequestOutput(_Frame, frozen=True):
    """What is new about a request.

    Attributes:
        request_id: the request.
        text: text that may be shown now.
        num_tokens: tokens generated since the last output.
        finish_reason: `stop`, `length` or `error` on the last output.
        num_prompt_tokens: on the first output.
        num_cached_tokens: tokens of the prompt that were not computed again; with the first token.
        reports: one per token, if log-probabilities were asked for.
        error: code and message, when the reason is `error`.
        param: the parameter at fault.
    """

    request_id: int
    text: str = ""
    num_tokens: int = 0
    finish_reason: str | None = None
    num_prompt_tokens: int | None = None
    num_cached_tokens: int | None = None
    reports: list[TokenReport] = []
    error: tuple[str, str] | None = None
    param: str | None = None


class Ready(_Frame, frozen=True):
    """The model is loaded and its kernels have run."""

    info: ModelInfo


class LoadFailed(_Frame, frozen=True):
    """The model cannot be served; the process ends."""

    message: str
    hint: str | None = None


class Outputs(_Frame, frozen=True):
    """What a pass produced."""

    outputs: list[RequestOutput]
    stats: EngineStats | None = None


class Pong(_Frame, frozen=True):
    """Alive; `busy_seconds` is how long the current step has been running."""

    busy_seconds: float


Event = Ready | LoadFailed | Outputs | Pong

_encoder = msgspec.msgpack.Encoder()
_command_decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_event_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def encode_frame(message: Command | Event) -> bytes:
    """A frame, header included."""
    body = _encoder.encode(message)
    return HEADER.pack(len(body)) + body


def decode_command(body: bytes) -> Command:
    """The command in a frame's body."""
    return _command_decoder.decode(body)


def decode_event(body: bytes) -> Event:
    """The event in a frame's body."""
    return _event_decoder.decode(body)
