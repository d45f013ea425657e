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
from inferflux_core.model_signing.rules import SignatureReport, SigningRules

__all__ = [
    "HEADER",
    "MAX_FRAME_BYTES",
    "Abort",
    "AdapterUse",
    "Answer",
    "Call",
    "CallFailed",
    "ChatPrompt",
    "Command",
    "Detokenize",
    "Done",
    "Embed",
    "Embeddings",
    "EngineStats",
    "Event",
    "Generate",
    "InfillPrompt",
    "LoadAdapter",
    "LoadFailed",
    "LoadModel",
    "ModelInfo",
    "Outputs",
    "Ping",
    "Pong",
    "Prompt",
    "Rank",
    "Ready",
    "Render",
    "RequestOutput",
    "Scores",
    "Shutdown",
    "Text",
    "TextPrompt",
    "TokenPrompt",
    "TokenReport",
    "Tokenize",
    "Tokens",
    "UnloadAdapter",
    "decode_command",
    "decode_event",
    "encode_frame",
]

HEADER: Final = struct.Struct("<I")
MAX_FRAME_BYTES: Final = 256 * 1024 * 1024


class _Frame(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag=True):
    """Base of everything that crosses the socket."""


class TextPrompt(_Frame, frozen=True):
    """A prompt as text; the model's special tokens are added around it, unless told otherwise."""

    text: str
    add_special: bool = True


class TokenPrompt(_Frame, frozen=True):
    """A prompt as token ids, taken as it is."""

    token_ids: list[int]


class ChatPrompt(_Frame, frozen=True):
    """A conversation, to be rendered by the model's own template in the engine process.

    `messages` and `tools` have the shapes that Hugging Face chat templates expect. With `continue_last`,
    the last message is the beginning of the answer.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    options: dict[str, Any] = {}
    continue_last: bool = False


class InfillPrompt(_Frame, frozen=True):
    """Two texts between which the model shall write; for models with `ModelInfo.infills`."""

    prefix: str
    suffix: str


Prompt = TextPrompt | TokenPrompt | ChatPrompt | InfillPrompt


class LoadModel(_Frame, frozen=True):
    """The first frame an engine process receives. `model.path` is a file on this machine.

    With `retune`, what was measured about model and machine before is measured again. The model was
    verified already where `signing` wants that; adapters are when they are loaded.
    """

    model: ModelConfig
    backend: str
    runtime: RuntimeConfig
    plugins: PluginsConfig
    retune: bool = False
    signing: SigningRules = SigningRules()


class AdapterUse(_Frame, frozen=True):
    """An adapter by name, and how strongly to apply it."""

    name: str
    scale: float = 1.0


class Generate(_Frame, frozen=True):
    """Start a generation.

    Attributes:
        request_id: chosen by the sender.
        prompt: what to continue.
        params: how.
        cache_salt: prefixes are shared among requests with the same one.
        tenant: on whose behalf, for schedulers that are fair to tenants.
        priority: lower goes first.
        adapters: applied together; each must be loaded.
    """

    request_id: int
    prompt: Prompt
    params: SamplingParams
    cache_salt: str = ""
    tenant: str = ""
    priority: int = 0
    adapters: list[AdapterUse] = []


class LoadAdapter(_Frame, frozen=True):
    """Load a LoRA adapter from a file, or put it in the place of the one of that name.

    Requests that run go on with the one they began with. Answered by `Done`. If the file is encrypted,
    `key_file` has its key; keys themselves cross no wire.
    """

    call_id: int
    name: str
    path: str
    key_file: str | None = None


class UnloadAdapter(_Frame, frozen=True):
    """Forget an adapter; requests that run keep it until they end. Answered by `Done`."""

    call_id: int
    name: str


class Tokenize(_Frame, frozen=True):
    """Render and tokenize a prompt. Answered by `Tokens`."""

    call_id: int
    prompt: Prompt


class Detokenize(_Frame, frozen=True):
    """Turn token ids into text. Answered by `Text`."""

    call_id: int
    token_ids: list[int]


class Render(_Frame, frozen=True):
    """Say what a conversation looks like to the model. Answered by `Text`."""

    call_id: int
    prompt: ChatPrompt


class Embed(_Frame, frozen=True):
    """Embed texts or token sequences, as pooled by the model. Answered by `Embeddings`."""

    call_id: int
    inputs: list[Prompt]


class Rank(_Frame, frozen=True):
    """Say how well documents answer a query. Answered by `Scores`."""

    call_id: int
    query: str
    documents: list[str]


class Abort(_Frame, frozen=True):
    """Stop a generation, or give up a call; nothing is answered."""

    request_id: int


class Ping(_Frame, frozen=True):
    """Are you alive?"""


class Shutdown(_Frame, frozen=True):
    """End the process."""


Call = LoadAdapter | UnloadAdapter | Tokenize | Detokenize | Render | Embed | Rank
Command = LoadModel | Generate | Abort | Ping | Shutdown | Call


class ModelInfo(_Frame, frozen=True):
    """What was loaded.

    Attributes:
        name: as clients call it.
        backend: what executes it.
        device: where.
        vocab_size: number of token ids.
        max_model_len: tokens a sequence can hold.
        max_num_seqs: sequences at once.
        details: what was measured and chosen, for people.
        hosts_adapters: whether it takes adapters.
        embeds: whether it embeds texts.
        ranks: whether it scores documents.
        generates: whether it generates text.
        infills: whether it writes between two texts.
        chat_template: its source; without one, it cannot take conversations.
        tool_format: how it spells tool calls; a name in `inferflux_core.tool_calls.formats`.
        reasoning: what it writes before and after its reasoning, if it reasons.
        signatures: of it and of its draft model, where they were looked at.
    """

    name: str
    backend: str
    device: str
    vocab_size: int
    max_model_len: int
    max_num_seqs: int
    details: dict[str, str] = {}
    hosts_adapters: bool = False
    embeds: bool = False
    ranks: bool = False
    generates: bool = True
    infills: bool = False
    chat_template: str | None = None
    tool_format: str = "generic"
    reasoning: tuple[str, str] | None = None
    signatures: tuple[SignatureReport, ...] = ()


class EngineStats(_Frame, frozen=True):
    """Load of an engine.

    Attributes:
        num_running: requests being computed.
        num_waiting: requests in the queue.
        kv_usage: share of KV cells in use, 0 to 1.
        prefix_queries: blocks of prompts looked up in the prefix cache since the start.
        prefix_hits: those that were found, in memory or on disk.
        num_preempted: requests that had to give up their slot for a while, since the start.
        num_drafted: tokens that were guessed ahead, since the start.
        num_accepted: those that the model agreed with.
        num_failed_drafters: ways to guess that failed, and are not used any more.
        memory_blocks: blocks of the prefix cache in main memory.
        memory_bytes: their size.
        disk_bytes: size of the blocks on disk.
        disk_hits: blocks that were read back from disk since the start.
        disk_errors: files that were damaged or foreign, and writes that failed, since the start.
    """

    num_running: int = 0
    num_waiting: int = 0
    kv_usage: float = 0.0
    prefix_queries: int = 0
    prefix_hits: int = 0
    num_preempted: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
    num_failed_drafters: int = 0
    memory_blocks: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    disk_hits: int = 0
    disk_errors: int = 0


class TokenReport(_Frame, frozen=True):
    """A generated token and the likeliest alternatives, with natural log-probabilities."""

    token_id: int
    piece: bytes
    logprob: float
    alternatives: list[tuple[bytes, float]] = []
    alternative_ids: list[int] = []


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
        prompt_reports: of the prompt's tokens from the second one on, likewise; with the first token.
        in_reasoning: on the first output; whether the prompt ends within the model's reasoning.
        stop_sequence: the stop string that ended the output, on the last one.
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
    prompt_reports: list[TokenReport] = []
    in_reasoning: bool = False
    stop_sequence: str | None = None
    error: tuple[str, str] | None = None
    param: str | None = None

    def merge(self, later: RequestOutput) -> RequestOutput:
        """This output and the one after it, as one."""
        prompt, cached = self.num_prompt_tokens, self.num_cached_tokens
        return RequestOutput(
            request_id=self.request_id,
            text=self.text + later.text,
            num_tokens=self.num_tokens + later.num_tokens,
            finish_reason=later.finish_reason,
            num_prompt_tokens=prompt if prompt is not None else later.num_prompt_tokens,
            num_cached_tokens=cached if cached is not None else later.num_cached_tokens,
            reports=self.reports + later.reports,
            prompt_reports=self.prompt_reports + later.prompt_reports,
            in_reasoning=self.in_reasoning or later.in_reasoning,
            stop_sequence=later.stop_sequence,
            error=later.error,
            param=later.param,
        )


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


class Done(_Frame, frozen=True):
    """A call has done what it was asked for."""

    call_id: int


class Tokens(_Frame, frozen=True):
    """The answer to `Tokenize`; `pieces` are the tokens' bytes."""

    call_id: int
    token_ids: list[int]
    pieces: list[bytes]


class Text(_Frame, frozen=True):
    """The answer to `Detokenize`."""

    call_id: int
    text: str


class Embeddings(_Frame, frozen=True):
    """The answer to `Embed`: `vectors` is float32, little-endian, `[inputs, size]`."""

    call_id: int
    size: int
    vectors: bytes
    num_tokens: int


class Scores(_Frame, frozen=True):
    """The answer to `Rank`: one number per document, higher is better."""

    call_id: int
    scores: list[float]
    num_tokens: int


class CallFailed(_Frame, frozen=True):
    """A call could not be answered: an error's code, message and parameter."""

    call_id: int
    code: str
    message: str
    param: str | None = None


Answer = Done | Tokens | Text | Embeddings | Scores | CallFailed
Event = Ready | LoadFailed | Outputs | Pong | Answer

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
