"""Models as each of LM Studio's APIs describes them."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any, Final

from inferflux_api.engines import Target
from inferflux_api.models.facts import facts_of
from inferflux_api.models.served import ServedModel
from inferflux_core.errors import InvalidRequestError, ModelLoadError
from inferflux_core.models import reference

__all__ = [
    "check_context_length",
    "file_format",
    "instance_info",
    "is_embedding",
    "is_ready",
    "model_info",
    "quantization",
    "runtime_info",
    "v0_model",
    "v1_model",
]

_PUBLISHER: Final = "inferflux"
# Every answer tells it, and looking it up reads files.
_OWN_VERSION: Final = version("inferflux-api")
_QUANTIZATION: Final = re.compile(r"(?:^|[-._])(I?Q\d[\w]*|F16|BF16|F32|MXFP4)(?=\.gguf|$)", re.I)
_BITS: Final = re.compile(r"\d+")


def is_embedding(model: ServedModel) -> bool:
    """Whether it only embeds; a model that was loaded knows better than its file."""
    info = model.engine.loaded_info
    return facts_of(model).only_embeds if info is None else info.embeds and not info.generates


def is_ready(model: ServedModel) -> bool:
    """Whether it is in memory, and neither comes nor goes."""
    return model.is_loaded and model.transition is None


def check_context_length(model: ServedModel, wanted: int | None) -> None:
    """Whether a model holds as many tokens as were asked for. One that was never loaded might.

    Raises:
        InvalidRequestError: it holds fewer.
    """
    info = model.engine.loaded_info
    if wanted is None or info is None or wanted <= info.max_model_len:
        return
    raise InvalidRequestError(
        f"a context of {wanted} tokens was asked for, and this model is served with "
        f"{info.max_model_len}; raise `runtime.max_model_len`",
        param="context_length",
    )


def file_format(model: ServedModel) -> str:
    """What its weights are kept in."""
    path = model.config.path or ""
    return "gguf" if not path or path.lower().endswith(".gguf") else "safetensors"


def quantization(model: ServedModel) -> str | None:
    """As the name of its file says."""
    found = _QUANTIZATION.search(model.config.path or "")
    return found[1].upper() if found else None


def context_length(model: ServedModel) -> int:
    """Tokens a sequence can hold; 0 until the model was loaded once."""
    info = model.engine.loaded_info
    return info.max_model_len if info else 0


def calls_tools(model: ServedModel) -> bool:
    """Whether its template was made for tools."""
    info = model.engine.loaded_info
    return info is not None and info.tool_format != "generic"


def size_bytes(model: ServedModel) -> int:
    """Of its files; 0 if they are out of reach."""
    try:
        return reference.size_bytes(model.config.path or "")
    except ModelLoadError:
        return 0


def v0_model(model: ServedModel) -> dict[str, Any]:
    """An entry of `/api/v0/models`. Looks at files: call it in a thread."""
    facts = facts_of(model)
    entry: dict[str, Any] = {
        "id": model.name,
        "object": "model",
        "type": "embeddings" if is_embedding(model) else "llm",
        "publisher": _PUBLISHER,
        "arch": facts.architecture or "unknown",
        "compatibility_type": file_format(model),
        "quantization": facts.quantization or quantization(model) or "unknown",
        "state": "loaded" if is_ready(model) else "not-loaded",
        "max_context_length": context_length(model) or facts.context_length,
    }
    if calls_tools(model) or facts.calls_tools:
        entry["capabilities"] = ["tool_use"]
    if is_ready(model):
        entry["loaded_context_length"] = context_length(model)
    return entry


def v1_model(model: ServedModel) -> dict[str, Any]:
    """An entry of `/api/v1/models`. Looks at files: call it in a thread."""
    facts = facts_of(model)
    name = facts.quantization or quantization(model)
    bits = _BITS.search(name or "")
    info = model.engine.loaded_info
    reasons = info is not None and info.reasoning is not None
    return {
        "type": "embedding" if is_embedding(model) else "llm",
        "publisher": _PUBLISHER,
        "key": model.name,
        "display_name": model.name,
        "architecture": facts.architecture or None,
        "quantization": {"name": name, "bits_per_weight": int(bits[0])} if name and bits else None,
        "size_bytes": size_bytes(model),
        "params_string": facts.parameter_size or None,
        "loaded_instances": [{"id": model.name, "config": load_config(model)}]
        if is_ready(model)
        else [],
        "max_context_length": context_length(model) or facts.context_length,
        "format": file_format(model),
        "capabilities": {
            "vision": False,
            "trained_for_tool_use": calls_tools(model) or facts.calls_tools,
            **(
                {"reasoning": {"allowed_options": ["off", "on"], "default": "on"}}
                if reasons
                else {}
            ),
        },
        "description": None,
    }


def load_config(model: ServedModel) -> dict[str, Any]:
    """How an instance was loaded."""
    info = model.engine.loaded_info
    return {
        "context_length": context_length(model),
        "parallel": info.max_num_seqs if info else 0,
    }


def model_info(model: ServedModel) -> dict[str, Any]:
    """A model, for the SDKs. Looks at files, unless it was loaded: call it in a thread."""
    info: dict[str, Any] = {
        "type": "embedding" if is_embedding(model) else "llm",
        "modelKey": model.name,
        "format": file_format(model),
        "displayName": model.name,
        # Where files lie is nobody's business.
        "path": model.name,
        "sizeBytes": size_bytes(model),
        "maxContextLength": context_length(model),
    }
    if info["type"] == "llm":
        info |= {"vision": False, "trainedForToolUse": calls_tools(model)}
    return info


def instance_info(target: Target) -> dict[str, Any]:
    """A loaded model, for the SDKs; there is one instance of each, with the name it was asked for by."""
    model = target.model
    return model_info(model) | {
        "identifier": target.name,
        "instanceReference": target.name,
        "contextLength": context_length(model),
    }


def runtime_info() -> dict[str, Any]:
    """What runs models here."""
    return {
        "name": "inferflux",
        "version": _OWN_VERSION,
        "supported_formats": ["gguf"],
    }
