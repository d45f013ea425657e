"""What is said about models: OpenAI's fields, vLLM's for adapters, and our own."""

from __future__ import annotations

from typing import Any

from inferflux_api.adapters import ServedAdapter
from inferflux_api.models.served import ServedModel
from inferflux_core.encrypted_adapters import adapter_name
from inferflux_core.engine.protocol import ModelInfo

__all__ = ["describe", "describe_adapter"]


def describe(model: ServedModel, *, in_full: bool) -> dict[str, Any]:
    """A model and how it is.

    What was found out when it was loaded is there from the first time on.

    Args:
        model: the model.
        in_full: say why it could not be loaded or is not signed, which may name files.
    """
    description: dict[str, Any] = {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "inferflux",
        "backend": model.backend,
        "state": model.state,
        "load": model.config.load,
        "idle_ttl": model.idle_ttl,
        "in_use": model.users,
        "waiting": model.waiting,
        "last_used": model.last_used,
        "expires_at": model.expires_at,
        "memory_bytes": model.engine.memory_bytes,
        "adapters": [adapter.name for adapter in model.adapters],
    }
    if in_full and model.failure is not None:
        description["error"] = model.failure.reason
    if model.engine.loaded_info is not None:
        description |= _of_last_load(model.engine.loaded_info, in_full=in_full)
    return description


def describe_adapter(adapter: ServedAdapter, model: ServedModel) -> dict[str, Any]:
    """As vLLM lists adapters; but where files lie is nobody's business, so `root` is a bare name."""
    return {
        "id": adapter.name,
        "object": "model",
        "created": adapter.created,
        "owned_by": "inferflux",
        "parent": model.name,
        "root": adapter_name(adapter.path),
        "backend": model.backend,
        "state": model.state,
    }


def _of_last_load(info: ModelInfo, *, in_full: bool) -> dict[str, Any]:
    abilities = {
        "generate": info.generates,
        "infill": info.infills,
        "embed": info.embeds,
        "rank": info.ranks,
        "adapters": info.hosts_adapters,
    }
    return {
        "max_model_len": info.max_model_len,
        "max_num_seqs": info.max_num_seqs,
        "device": info.device,
        "capabilities": [name for name, present in abilities.items() if present],
        "details": info.details,
        **({"signatures": _signatures(info, in_full=in_full)} if info.signatures else {}),
    }


def _signatures(info: ModelInfo, *, in_full: bool) -> dict[str, Any]:
    """Of the model and of its draft model: whether it is signed, and by which key or why not."""
    return {
        report.role: {
            "file": report.file,
            "verified": report.key_id is not None,
            **({"key_id": report.key_id} if report.key_id else {}),
            **({"problem": report.problem} if in_full and report.problem else {}),
        }
        for report in info.signatures
    }
