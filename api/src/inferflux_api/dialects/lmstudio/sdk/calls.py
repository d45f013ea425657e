"""What the SDKs call and get one answer to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

from inferflux_api.conversation import Conversation
from inferflux_api.dialects.lmstudio.descriptions import (
    instance_info,
    is_embedding,
    is_ready,
    model_info,
)
from inferflux_api.dialects.lmstudio.sdk.config import PredictionConfig
from inferflux_api.dialects.lmstudio.sdk.history import template_messages
from inferflux_api.engines import Target, VisibleModels
from inferflux_api.models.served import ServedModel
from inferflux_api.server import Server
from inferflux_api.vectors import normalised
from inferflux_core.auth import Principal
from inferflux_core.engine.protocol import TextPrompt
from inferflux_core.errors import InvalidRequestError, ModelNotFoundError

__all__ = ["CALLS", "Caller", "text_field", "wanted_target"]

Parameter = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and where.

    Attributes:
        server: that is called.
        principal: who calls.
        namespace: `llm`, `embedding` or `system`.
    """

    server: Server
    principal: Principal
    namespace: str

    @property
    def models(self) -> VisibleModels:
        """That the client may use."""
        return self.server.engines.seen_by(self.principal)

    def loaded(self) -> Iterator[ServedModel]:
        """Models of this namespace that are in memory."""
        embeds = self.namespace == "embedding"
        return (m for m in self.models if is_ready(m) and is_embedding(m) == embeds)


def wanted_target(caller: Caller, specifier: object) -> Target:
    """The model or adapter that a specifier means; without any wish, the first model that is loaded.

    Raises:
        ModelNotFoundError: there is none.
        InvalidRequestError: the specifier is malformed.
    """
    if not isinstance(specifier, dict):
        raise InvalidRequestError("a model specifier is an object", param="specifier")
    name = specifier.get("instanceReference")
    query = specifier.get("query")
    if isinstance(query, dict):
        name = query.get("identifier") or query.get("path")
    if name is None:
        if (model := next(caller.loaded(), None)) is not None:
            return Target(model.name, model, [])
        raise ModelNotFoundError("no model is loaded that fits")
    if not isinstance(name, str):
        raise InvalidRequestError("the name of a model is a text", param="specifier")
    return caller.models.resolve(name)


def text_field(parameter: Parameter, name: str) -> str:
    """A field that has to be a text.

    Raises:
        InvalidRequestError: it is none.
    """
    value = parameter.get(name)
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} must be a text", param=name)
    return value


async def _list_loaded(caller: Caller, parameter: Parameter) -> list[dict[str, Any]]:
    del parameter
    return [instance_info(Target(model.name, model, [])) for model in caller.loaded()]


async def _list_downloaded(caller: Caller, parameter: Parameter) -> list[dict[str, Any]]:
    del parameter
    return await asyncio.to_thread(lambda: [*map(model_info, caller.models)])


async def _version(caller: Caller, parameter: Parameter) -> dict[str, Any]:
    del caller, parameter
    return {"version": version("inferflux-api"), "build": 1}


async def _get_model_info(caller: Caller, parameter: Parameter) -> dict[str, Any] | None:
    try:
        target = wanted_target(caller, parameter.get("specifier"))
        return await asyncio.to_thread(instance_info, target)
    except ModelNotFoundError:
        if parameter.get("throwIfNotFound"):
            raise
        return None


async def _get_load_config(caller: Caller, parameter: Parameter) -> dict[str, Any]:
    info = wanted_target(caller, parameter.get("specifier")).model.engine.loaded_info
    length = {
        "key": f"{caller.namespace}.load.contextLength",
        "value": info.max_model_len if info else 0,
    }
    return {"fields": [length]}


async def _unload(caller: Caller, parameter: Parameter) -> None:
    engines = caller.server.engines
    await engines.unload(engines.get(text_field(parameter, "identifier")), drain=True)


async def _token_ids(caller: Caller, parameter: Parameter) -> list[int]:
    target = wanted_target(caller, parameter.get("specifier"))
    prompt = TextPrompt(text=text_field(parameter, "inputString"))
    result = await caller.server.operations.tokenize(caller.principal, target.name, prompt)
    return result.answer.token_ids


async def _tokenize(caller: Caller, parameter: Parameter) -> dict[str, Any]:
    return {"tokens": await _token_ids(caller, parameter)}


async def _count_tokens(caller: Caller, parameter: Parameter) -> dict[str, Any]:
    return {"tokenCount": len(await _token_ids(caller, parameter))}


async def _apply_template(caller: Caller, parameter: Parameter) -> dict[str, Any]:
    target = wanted_target(caller, parameter.get("specifier"))
    config = PredictionConfig(parameter.get("predictionConfigStack"))
    conversation = Conversation(
        messages=template_messages(parameter.get("history")), tools=config.tools()
    )
    result = await caller.server.operations.render(
        caller.principal, target.name, conversation.prompt()
    )
    return {"formatted": result.answer.text}


async def _embed(caller: Caller, parameter: Parameter) -> dict[str, Any]:
    target = wanted_target(caller, parameter.get("modelSpecifier"))
    prompt = TextPrompt(text=text_field(parameter, "inputString"))
    result = await caller.server.operations.embed(caller.principal, target.name, [prompt])
    (vector,) = normalised(result.answer, None)
    return {"embedding": vector.tolist()}


Call = Callable[[Caller, Parameter], Awaitable[Any]]
_MODEL_CALLS: Final[dict[str, tuple[str, Call]]] = {
    "listLoaded": ("read", _list_loaded),
    "getModelInfo": ("read", _get_model_info),
    "getLoadConfig": ("read", _get_load_config),
    "unloadModel": ("models:write", _unload),
    "tokenize": ("generate", _tokenize),
    "countTokens": ("generate", _count_tokens),
}
CALLS: Final[dict[str, dict[str, tuple[str, Call]]]] = {
    "llm": {**_MODEL_CALLS, "applyPromptTemplate": ("generate", _apply_template)},
    "embedding": {**_MODEL_CALLS, "embedString": ("generate", _embed)},
    "system": {
        "listDownloadedModels": ("read", _list_downloaded),
        "version": ("read", _version),
    },
    # The SDKs connect to these, too; nothing there is called to use a model.
    "files": {},
    "repository": {},
}
"""Scope and function of every call, by namespace and name."""
