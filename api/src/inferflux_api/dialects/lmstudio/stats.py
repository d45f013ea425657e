"""How a generation went, in LM Studio's words."""

from __future__ import annotations

from typing import Any, Final

from inferflux_api.pipeline import Generation

__all__ = ["generation_seconds", "stop_reason", "tokens_per_second", "v0_stats"]

_REASONS: Final = {"stop": "eosFound", "tool_calls": "toolCalls", "content_filter": "failed"}


def stop_reason(generation: Generation, finish_reason: str, stop_sequence: str | None) -> str:
    """Why a generation ended."""
    if stop_sequence is not None:
        return "stopStringFound"
    if finish_reason == "length":
        usage = generation.usage
        filled = usage.prompt_tokens + usage.completion_tokens
        full = filled >= generation.model.engine.info.max_model_len
        return "contextLengthReached" if full else "maxPredictedTokensReached"
    return _REASONS[finish_reason]


def generation_seconds(generation: Generation) -> float:
    """From the first token to now."""
    return max(generation.seconds - generation.first_token_seconds, 0.0)


def tokens_per_second(generation: Generation) -> float:
    """Of the answer, after its first token."""
    seconds = generation_seconds(generation)
    return (generation.usage.completion_tokens - 1) / seconds if seconds > 0 else 0.0


def v0_stats(
    generation: Generation, finish_reason: str, stop_sequence: str | None
) -> dict[str, Any]:
    """`stats` of the older REST API; times in seconds."""
    return {
        "tokens_per_second": tokens_per_second(generation),
        "time_to_first_token": generation.first_token_seconds,
        "generation_time": generation_seconds(generation),
        "stop_reason": stop_reason(generation, finish_reason, stop_sequence),
    }
