"""Loading and unloading LoRA adapters, as vLLM's clients do."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from litestar import Request, Response, post

from inferflux_api.engines import EnginePool, ServedModel
from inferflux_api.http.body import read_json
from inferflux_api.server import Server
from inferflux_core.errors import InvalidRequestError, NotFoundError

__all__ = ["ROUTES", "LoadLoraAdapter", "UnloadLoraAdapter"]

logger = logging.getLogger("inferflux.adapters")


class LoadLoraAdapter(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /v1/load_lora_adapter`.

    Attributes:
        lora_name: what clients will say as `model`.
        lora_path: a GGUF file or PEFT folder on the server, in a folder that adapters may come from.
        load_inplace: put it in the place of the one of that name.
        base_model_name: the model it is for; needed where several are served.
        is_3d_lora_weight: a layout of vLLM's that GGUF files do not have.
    """

    lora_name: str
    lora_path: str
    load_inplace: bool = False
    base_model_name: str | None = None
    is_3d_lora_weight: bool = False


class UnloadLoraAdapter(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /v1/unload_lora_adapter`."""

    lora_name: str


_load_decoder = msgspec.json.Decoder(LoadLoraAdapter)
_unload_decoder = msgspec.json.Decoder(UnloadLoraAdapter)


@post(
    "/v1/load_lora_adapter",
    status_code=200,
    opt={"scope": "adapters:write", "body": LoadLoraAdapter},
    tags=["Adapters"],
)
async def load_lora_adapter(request: Request[Any, Any, Any]) -> Response[str]:
    """Load a LoRA adapter while serving."""
    server: Server = request.app.state.server
    body = await read_json(request, _load_decoder, **server.body_limits)
    if body.is_3d_lora_weight:
        raise InvalidRequestError(
            "is_3d_lora_weight does not apply to GGUF files", param="is_3d_lora_weight"
        )
    model = _base(server.engines, body.base_model_name)
    logger.info("'%s' asks for adapter '%s'", request.user.subject, body.lora_name)
    async with server.engines.lease(model):
        await model.adapters.load(body.lora_name, body.lora_path, in_place=body.load_inplace)
    return _success(f"LoRA adapter '{body.lora_name}' added successfully.")


@post(
    "/v1/unload_lora_adapter",
    status_code=200,
    opt={"scope": "adapters:write", "body": UnloadLoraAdapter},
    tags=["Adapters"],
)
async def unload_lora_adapter(request: Request[Any, Any, Any]) -> Response[str]:
    """Forget a LoRA adapter; requests that run keep it until they end."""
    server: Server = request.app.state.server
    body = await read_json(request, _unload_decoder, **server.body_limits)
    for model in server.engines:
        if model.adapters.get(body.lora_name) is not None:
            logger.info("'%s' takes adapter '%s' away", request.user.subject, body.lora_name)
            await model.adapters.unload(body.lora_name)
            return _success(f"LoRA adapter '{body.lora_name}' removed successfully.")
    raise NotFoundError(f"there is no adapter '{body.lora_name}'", param="lora_name")


def _base(engines: EnginePool, name: str | None) -> ServedModel:
    models = list(engines)
    if name is None and len(models) > 1:
        names = ", ".join(model.name for model in models)
        raise InvalidRequestError(
            f"say which model the adapter is for; there is: {names}", param="base_model_name"
        )
    return engines.get(name)


def _success(what: str) -> Response[str]:
    return Response(f"Success: {what}", media_type="text/plain")


ROUTES = [load_lora_adapter, unload_lora_adapter]
