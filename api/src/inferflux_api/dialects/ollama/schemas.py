"""What Ollama's clients send. Unknown fields and options are ignored; null means absent."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from inferflux_core.errors import InvalidRequestError

__all__ = [
    "ChatBody",
    "CopyBody",
    "CreateBody",
    "EmbedBody",
    "EmbeddingsBody",
    "GenerateBody",
    "GenerationFields",
    "Message",
    "ModelBody",
    "Options",
    "PullBody",
    "ShowBody",
]

Number = int | float
Name = Annotated[str, Meta(min_length=1, max_length=512)]


class Options(msgspec.Struct, frozen=True):
    """How to generate. Those about loading are for Ollama's own runner and have no effect here."""

    num_predict: Number | None = None
    num_ctx: Number | None = None
    seed: Number | None = None
    temperature: Number | None = None
    top_k: Number | None = None
    top_p: Number | None = None
    min_p: Number | None = None
    typical_p: Number | None = None
    repeat_penalty: Number | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    stop: str | list[str] | None = None


class GenerationFields(msgspec.Struct, frozen=True, kw_only=True):
    """What both ways to generate share."""

    model: Name
    stream: bool | None = None
    format: str | dict[str, Any] | None = None
    options: Options | None = None
    keep_alive: Number | str | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


class GenerateBody(GenerationFields, frozen=True, kw_only=True):
    """Body of `POST /api/generate`."""

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: list[int] | None = None
    raw: bool | None = None
    images: list[Any] | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn."""

    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[Any] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class ChatBody(GenerationFields, frozen=True, kw_only=True):
    """Body of `POST /api/chat`."""

    messages: Annotated[list[Message], Meta(max_length=4096)] = []
    tools: list[dict[str, Any]] | None = None


class EmbedBody(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /api/embed`."""

    model: Name
    input: str | Annotated[list[str], Meta(max_length=2048)] | None = None
    truncate: bool | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    keep_alive: Number | str | None = None


class EmbeddingsBody(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /api/embeddings`."""

    model: Name
    prompt: str = ""
    keep_alive: Number | str | None = None


class ModelBody(msgspec.Struct, frozen=True, kw_only=True):
    """Which model something is done to; older clients call it `name`."""

    model: str | None = None
    name: str | None = None

    def required(self) -> str:
        """The name.

        Raises:
            InvalidRequestError: there is none.
        """
        name = self.model or self.name
        if not name:
            raise InvalidRequestError("model is required")
        return name


class ShowBody(ModelBody, frozen=True, kw_only=True):
    """Body of `POST /api/show`."""

    verbose: bool | None = None


class PullBody(ModelBody, frozen=True, kw_only=True):
    """Body of `POST /api/pull`."""

    stream: bool | None = None


class CreateBody(ModelBody, frozen=True, kw_only=True):
    """Body of `POST /api/create`."""

    from_: str | None = msgspec.field(name="from", default=None)
    files: dict[str, str] | None = None
    adapters: dict[str, str] | None = None
    template: str | None = None
    system: str | None = None
    parameters: dict[str, Any] | None = None
    messages: Annotated[list[Message], Meta(max_length=1024)] | None = None
    license: str | list[str] | None = None
    quantize: str | None = None
    stream: bool | None = None


class CopyBody(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /api/copy`."""

    source: Name
    destination: Name
