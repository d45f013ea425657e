"""Models as Ollama describes them. Looks at files: call it in a thread."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

import msgspec

from inferflux_api.dialects.ollama.names import with_tag
from inferflux_api.engines import Target
from inferflux_api.library.store import Manifest
from inferflux_api.models.facts import ModelFacts, facts_of
from inferflux_api.models.served import ServedModel
from inferflux_api.timestamps import timestamp

__all__ = ["details", "digest", "shown", "tag"]

_LONG: Final = 512


def tag(target: Target, manifest: Manifest | None) -> dict[str, Any]:
    """An entry of `/api/tags`."""
    facts = facts_of(target.model)
    name = with_tag(target.name)
    return {
        "name": name,
        "model": name,
        "modified_at": timestamp(_modified_at(facts, manifest)),
        "size": facts.size,
        "digest": digest(target.model, manifest),
        "details": details(target, manifest),
        "capabilities": _capabilities(target.model, facts),
    }


def details(target: Target, manifest: Manifest | None) -> dict[str, Any]:
    """What kind of model it is."""
    facts = facts_of(target.model)
    parent = target.model.name if target.is_adapter else manifest.source if manifest else ""
    return {
        "parent_model": parent,
        "format": facts.format,
        "family": facts.architecture,
        "families": [facts.architecture] if facts.architecture else [],
        "parameter_size": facts.parameter_size,
        "quantization_level": facts.quantization,
        "context_length": facts.context_length,
        "embedding_length": facts.embedding_length,
    }


def digest(model: ServedModel, manifest: Manifest | None) -> str:
    """What tells this version of a model from others, in hexadecimal."""
    if manifest is None:
        return facts_of(model).digest
    nameless = msgspec.structs.replace(manifest, name="", created_at=0.0)
    return hashlib.sha256(msgspec.json.encode(nameless)).hexdigest()


def shown(target: Target, manifest: Manifest | None, *, verbose: bool) -> dict[str, Any]:
    """The answer to `/api/show`."""
    facts = facts_of(target.model)
    empty = Manifest(name=target.name, model="", size=0, created_at=facts.modified_at)
    created = manifest or empty
    info = target.model.engine.loaded_info
    template = created.chat_template or created.template or facts.chat_template
    answer: dict[str, Any] = {
        "modelfile": _modelfile(target.name, created),
        "parameters": _parameters(created.parameters),
        "template": template or (info.chat_template if info else None) or "",
        "details": details(target, manifest),
        "model_info": _metadata(facts, verbose=verbose),
        "capabilities": _capabilities(target.model, facts),
        "modified_at": timestamp(_modified_at(facts, manifest)),
    }
    if created.license:
        answer["license"] = "\n".join(created.license)
    if created.system:
        answer["system"] = created.system
    if created.messages:
        answer["messages"] = created.messages
    return answer


def _modified_at(facts: ModelFacts, manifest: Manifest | None) -> float:
    return manifest.created_at if manifest else facts.modified_at


def _capabilities(model: ServedModel, facts: ModelFacts) -> list[str]:
    """What it can do; a model that was loaded knows better than its file."""
    info = model.engine.loaded_info
    if info is None:
        generates = not facts.only_embeds
        present = (facts.calls_tools, facts.infills, facts.only_embeds, facts.reasons)
    else:
        generates = info.generates
        tools = info.tool_format != "generic"
        present = (tools, info.infills, info.embeds and not generates, info.reasoning is not None)
    found = ["completion"] if generates else []
    names = ("tools", "insert", "embedding", "thinking")
    return found + [name for name, has in zip(names, present, strict=True) if has]


def _metadata(facts: ModelFacts, *, verbose: bool) -> dict[str, Any]:
    """What the file says; without long texts, unless they are asked for. Arrays are left empty."""
    if facts.header is None:
        return {"general.architecture": ""}
    values = facts.header.metadata
    kept = {
        key: value
        for key, value in values.items()
        if verbose or not isinstance(value, str) or len(value) <= _LONG
    }
    arrays = dict.fromkeys(facts.header.arrays)
    return {**kept, **arrays, "general.parameter_count": facts.num_parameters}


def _modelfile(name: str, manifest: Manifest) -> str:
    lines = ["# Modelfile", f"FROM {with_tag(name)}"]
    if text := manifest.chat_template or manifest.template:
        lines.append(f'TEMPLATE """{text}"""')
    if manifest.system:
        lines.append(f'SYSTEM """{manifest.system}"""')
    lines += [
        f"PARAMETER {key} {value}"
        for key, given in manifest.parameters.items()
        for value in _values(given)
    ]
    return "\n".join([*lines, *(f'LICENSE """{text}"""' for text in manifest.license)])


def _parameters(parameters: dict[str, Any]) -> str:
    """A table with a line for each value."""
    return "\n".join(
        f"{key:<30} {value}" for key, given in parameters.items() for value in _values(given)
    )


def _values(given: object) -> list[str]:
    return [json.dumps(value) for value in (given if isinstance(given, list) else [given])]
