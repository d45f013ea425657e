"""Models in Anthropic's shape, for its clients at the endpoint that OpenAI's share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from litestar import Request

from inferflux_api.models.served import ServedModel

__all__ = ["VERSION_HEADER", "anthropic_model", "anthropic_page", "wants_anthropic"]

VERSION_HEADER: Final = "anthropic-version"


def wants_anthropic(request: Request[Any, Any, Any]) -> bool:
    """Whether an Anthropic client asks; they all say which version of the API they speak."""
    return VERSION_HEADER in request.headers


def anthropic_model(name: str, model: ServedModel) -> dict[str, Any]:
    """A model, or an adapter of it, under a name."""
    info = model.engine.loaded_info
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": datetime.fromtimestamp(model.created, UTC).isoformat(),
        "lifecycle": "active",
        "max_input_tokens": info.max_model_len if info else None,
        "max_tokens": info.max_model_len if info else None,
    }


def anthropic_page(models: list[dict[str, Any]]) -> dict[str, Any]:
    """All models on one page."""
    ids = [model["id"] for model in models]
    return {
        "data": models,
        "has_more": False,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
    }
