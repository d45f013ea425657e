"""What a caller may ask of the sampler."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from inferflux_core.errors import InvalidRequestError

__all__ = ["MAX_LOGPROBS", "MAX_STOP_STRINGS", "Constraint", "SamplingParams"]

MAX_LOGPROBS: Final = 20
MAX_STOP_STRINGS: Final = 16
MAX_STOP_LENGTH: Final = 1024
MAX_LOGIT_BIAS: Final = 1024
MAX_CONSTRAINT_LENGTH: Final = 256 * 1024

_RANGES: Final[dict[str, tuple[float, float]]] = {
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "typical_p": (0.0, 1.0),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
    "repetition_penalty": (0.01, 100.0),
}


class Constraint(msgspec.Struct, frozen=True, kw_only=True):
    """What an output has to look like.

    Attributes:
        kind: `json_schema` (a JSON Schema as JSON text), `regex`, `choice` (a JSON list of strings) or
            `grammar` (in llguidance's Lark dialect, or GBNF), or `tool_calls` (calls of tools as
            the model spells them; see `inferflux_core.tool_calls.grammar`).
        value: the schema, expression, list or grammar.
        param: the request field it came from, for errors to name.
    """

    kind: Literal["json_schema", "regex", "choice", "grammar", "tool_calls"]
    value: str
    param: str = "structured_outputs"


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How to choose the next token, and when to stop.

    Temperature is applied first, then `min_p`, `top_k`, `typical_p` and `top_p` in that order, as
    Hugging Face and vLLM do. Penalties and `logit_bias` act on the raw logits before all of them.

    Attributes:
        max_tokens: most tokens to generate; None means up to the end of the context.
        temperature: 0 is greedy.
        top_k: keep the k most likely tokens; 0 keeps all.
        top_p: keep the smallest set with this much probability.
        min_p: drop tokens less likely than this share of the most likely one.
        typical_p: locally typical sampling (Meister et al. 2022); 1 is off.
        repetition_penalty: divides the logits of tokens seen in prompt or output (Keskar et al. 2019).
        frequency_penalty: subtracted once per occurrence in the output.
        presence_penalty: subtracted once if the token occurs in the output.
        seed: makes the draw repeatable; None draws fresh randomness.
        logit_bias: token id to number added to its logit.
        stop: strings that end the output; they are not part of it.
        stop_token_ids: tokens that end the output.
        ignore_eos: go on past the model's own end.
        logprobs: report this many alternatives per token; None reports nothing.
        prompt_logprobs: the same for the tokens of the prompt; allows `max_tokens` 0.
        constraint: what the output has to look like.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    logit_bias: dict[int, float] = {}
    stop: list[str] = []
    stop_token_ids: list[int] = []
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    constraint: Constraint | None = None

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature < 1e-5

    @property
    def penalised(self) -> bool:
        """Whether logits change with what was generated so far."""
        return (
            self.repetition_penalty != 1.0
            or self.frequency_penalty != 0.0
            or self.presence_penalty != 0.0
        )

    @property
    def truncated(self) -> bool:
        """Whether some of the distribution is cut off before the draw."""
        return self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0 or self.typical_p < 1.0

    def validate(self, vocab_size: int | None = None) -> None:
        """Check ranges.

        Args:
            vocab_size: if given, token ids are checked against it.

        Raises:
            InvalidRequestError: naming the parameter at fault.
        """
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            # What is no number fails the comparison; integers may be too large for any float.
            if not low <= value <= high:
                _refuse(name, f"must be between {low:g} and {high:g}, not {value}")
        least = 1 if self.prompt_logprobs is None else 0
        if self.max_tokens is not None and self.max_tokens < least:
            _refuse("max_tokens", f"must be at least {least}, not {self.max_tokens}")
        if self.top_k < 0:
            _refuse("top_k", f"must not be negative, not {self.top_k}")
        for name in ("logprobs", "prompt_logprobs"):
            count = getattr(self, name)
            if count is not None and not 0 <= count <= MAX_LOGPROBS:
                _refuse(name, f"must be between 0 and {MAX_LOGPROBS}, not {count}")
        self._validate_stops()
        self._validate_tokens(vocab_size)
        if self.constraint is not None and len(self.constraint.value) > MAX_CONSTRAINT_LENGTH:
            _refuse(self.constraint.param, f"takes at most {MAX_CONSTRAINT_LENGTH} characters")

    def _validate_stops(self) -> None:
        if len(self.stop) > MAX_STOP_STRINGS:
            _refuse("stop", f"takes at most {MAX_STOP_STRINGS} strings, not {len(self.stop)}")
        for text in self.stop:
            if not 1 <= len(text) <= MAX_STOP_LENGTH:
                _refuse("stop", f"strings must have 1 to {MAX_STOP_LENGTH} characters")

    def _validate_tokens(self, vocab_size: int | None) -> None:
        if len(self.logit_bias) > MAX_LOGIT_BIAS:
            _refuse("logit_bias", f"takes at most {MAX_LOGIT_BIAS} tokens")
        for bias in self.logit_bias.values():
            if not -100 <= bias <= 100:
                _refuse("logit_bias", f"must be between -100 and 100, not {bias}")
        for name, ids in (
            ("logit_bias", list(self.logit_bias)),
            ("stop_token_ids", self.stop_token_ids),
        ):
            for token in ids:
                if token < 0 or (vocab_size is not None and token >= vocab_size):
                    _refuse(name, f"token id {token} is not in the vocabulary of {vocab_size}")


def _refuse(param: str, problem: str) -> None:
    raise InvalidRequestError(f"{param} {problem}", param=param)
