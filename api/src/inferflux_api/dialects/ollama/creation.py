"""Making a model from another one, or from a file."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from inferflux_api.dialects.ollama.names import resolve
from inferflux_api.dialects.ollama.schemas import CreateBody, Message, Options
from inferflux_api.dialects.ollama.translate import Defaults, check_message
from inferflux_api.engines import Target
from inferflux_api.library.names import canonical
from inferflux_api.library.store import Manifest
from inferflux_api.library.transfer import Progress
from inferflux_api.server import Server
from inferflux_core.auth import Principal
from inferflux_core.engine.chat_template import check_syntax
from inferflux_core.errors import InvalidRequestError

__all__ = ["create", "defaults_of"]


def defaults_of(server: Server, target: Target) -> Defaults:
    """What a model was created with.

    Raises:
        InvalidRequestError: it makes no sense, which a registry may have sent.
    """
    manifest = server.library.find(target.model)
    if manifest is None:
        return Defaults()
    try:
        return Defaults(
            options=msgspec.convert(manifest.parameters, Options),
            system=manifest.system,
            messages=msgspec.convert(manifest.messages, list[Message]),
        )
    except msgspec.ValidationError as error:
        raise InvalidRequestError(
            f"what the model '{manifest.name}' was made with cannot be used: {error}"
        ) from error


async def create(
    server: Server, principal: Principal, body: CreateBody
) -> AsyncGenerator[Progress, None]:
    """Make a model and serve it.

    Raises:
        InvalidRequestError: it cannot be made.
        ModelNotFoundError: there is no model to begin from.
        NotFoundError: this server has no library.
    """
    name = canonical(body.required())
    changes = _changes(body)
    made: Manifest | None = None
    async for step in _base(server, principal, body, name):
        if isinstance(step, Progress):
            yield step
        else:
            made = step
    assert made is not None
    if body.adapters is not None:
        digests = body.adapters.values()
        changes["adapters"] = [await server.library.adapter(digest) for digest in digests]
    manifest = msgspec.structs.replace(made, **changes)
    for digest in (manifest.model, *manifest.adapters):
        yield Progress(f"using existing layer {digest}")
    yield Progress("writing manifest")
    await server.library.publish(manifest)
    yield Progress("success")


async def _base(
    server: Server, principal: Principal, body: CreateBody, name: str
) -> AsyncGenerator[Progress | Manifest, None]:
    """The manifest of what the request begins from; it comes last."""
    library, files = server.library, body.files
    if body.from_:
        if files:
            raise InvalidRequestError("choose one of `from` and `files`", param="files")
        yield Progress("reading model")
        source = resolve(server.engines.seen_by(principal), body.from_)
        if source.is_adapter:
            raise InvalidRequestError(
                "this is the name of an adapter; begin from its model, and name its file in `adapters`",
                param="from",
            )
        base = await library.derive(source.model, name)
    elif not files:
        raise InvalidRequestError("neither 'from' or 'files' was specified")
    elif any(file.lower().endswith(".safetensors") for file in files):
        yield Progress("reading safetensors")
        async for step in library.convert(name, files, body.quantize):
            yield step
        return
    else:
        yield Progress("parsing GGUF")
        base = await library.of_blob(name, _only_gguf(files))
    if body.quantize:
        async for step in library.quantize(base, body.quantize):
            yield step
        library.store.discard([base.model])
    else:
        yield base


def _changes(body: CreateBody) -> dict[str, Any]:
    """The fields of a manifest that the request sets.

    Raises:
        InvalidRequestError: one of them cannot be had.
    """
    changes: dict[str, Any] = {}
    if body.template:
        _check_template(body.template)
        changes["chat_template"] = body.template
    if body.system is not None:
        changes["system"] = body.system
    if body.parameters is not None:
        _check_options(body.parameters)
        changes["parameters"] = body.parameters
    if body.messages is not None:
        for index, message in enumerate(body.messages):
            check_message(message, index)
        changes["messages"] = [_without_none(message) for message in body.messages]
    if body.license is not None:
        changes["license"] = [body.license] if isinstance(body.license, str) else body.license
    return changes


def _only_gguf(files: dict[str, str]) -> str:
    """The digest of the only file.

    Raises:
        InvalidRequestError: there are more, or it is of another format.
    """
    if any(not name.lower().endswith(".gguf") for name in files):
        raise InvalidRequestError(
            "a model is made from one GGUF file, or from safetensors with what lies beside them",
            param="files",
        )
    if len(files) != 1:
        raise InvalidRequestError("a model is made from one GGUF file", param="files")
    return next(iter(files.values()))


def _check_template(source: str) -> None:
    try:
        check_syntax(source)
    except InvalidRequestError as error:
        raise InvalidRequestError(
            f"{error}. Ollama's templates, in Go, are not rendered here; leave it out to use the one in "
            "the model's file",
            param="template",
        ) from error


def _check_options(parameters: dict[str, Any]) -> None:
    try:
        msgspec.convert(parameters, Options)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"parameters: {error}", param="parameters") from error


def _without_none(message: Any) -> dict[str, Any]:
    fields = msgspec.structs.asdict(message)
    return {name: value for name, value in fields.items() if value is not None}
