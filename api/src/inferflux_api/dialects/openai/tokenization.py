"""`/tokenize` and `/detokenize`, as vLLM and llama-server have them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, post
from msgspec import Meta

from inferflux_api.dialects.openai.schemas import ChatMessage
from inferflux_api.dialects.openai.translate import chat_prompt
from inferflux_api.http.body import read_json
from inferflux_api.server import Server
from inferflux_core.engine.protocol import Prompt, TextPrompt
from inferflux_core.errors import InvalidRequestError

__all__ = ["ROUTES", "DetokenizeRequest", "TokenizeRequest"]


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /tokenize`: one of `prompt`, `messages` and `content`.

    Attributes:
        prompt: a text.
        messages: a conversation, rendered by the model's template.
        content: a text, as llama-server calls it.
        model: its name.
        add_special_tokens: add those that the model expects around a text; true by default, but for
            `content`. Conversations have what their template gives them.
        add_special: the same, as llama-server calls it.
        add_generation_prompt: end a conversation where the answer begins.
        return_token_strs: tell what every token stands for, in `token_strs`.
        with_pieces: the same, as llama-server has it: `tokens` are objects with `id` and `piece`.
        chat_template_kwargs: passed on to the template.
    """

    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=4096)] | None = None
    content: str | None = None
    model: str | None = None
    add_special_tokens: bool | None = None
    add_special: bool | None = None
    add_generation_prompt: bool | None = None
    return_token_strs: bool | None = None
    with_pieces: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class DetokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /detokenize`."""

    tokens: list[int]
    model: str | None = None


_tokenize_decoder = msgspec.json.Decoder(TokenizeRequest)
_detokenize_decoder = msgspec.json.Decoder(DetokenizeRequest)


@post(
    ["/tokenize", "/v1/tokenize"],
    status_code=200,
    opt={"scope": "generate", "body": TokenizeRequest},
    tags=["Tokens"],
)
async def tokenize(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The tokens of a text or a conversation, as the model would see it."""
    server: Server = request.app.state.server
    body = await read_json(request, _tokenize_decoder, **server.body_limits)
    result = await server.operations.tokenize(request.user, body.model, _prompt(body))
    token_ids, pieces = result.answer.token_ids, result.answer.pieces
    texts = [piece.decode("utf-8", "replace") for piece in pieces]
    content: dict[str, Any] = {
        "count": len(token_ids),
        "max_model_len": result.max_model_len,
        "tokens": token_ids,
        "token_strs": texts if body.return_token_strs else None,
    }
    if body.with_pieces:
        content["tokens"] = [
            {"id": token_id, "piece": _piece(piece)}
            for token_id, piece in zip(token_ids, pieces, strict=True)
        ]
    return Response(
        msgspec.json.encode(content), media_type="application/json", headers=result.headers
    )


@post(
    ["/detokenize", "/v1/detokenize"],
    status_code=200,
    opt={"scope": "generate", "body": DetokenizeRequest},
    tags=["Tokens"],
)
async def detokenize(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The text of tokens: `prompt` for clients of vLLM, `content` for those of llama-server."""
    server: Server = request.app.state.server
    body = await read_json(request, _detokenize_decoder, **server.body_limits)
    result = await server.operations.detokenize(request.user, body.model, body.tokens)
    content = {"prompt": result.answer.text, "content": result.answer.text}
    return Response(
        msgspec.json.encode(content), media_type="application/json", headers=result.headers
    )


def _prompt(body: TokenizeRequest) -> Prompt:
    given = [body.prompt is not None, body.messages is not None, body.content is not None]
    if sum(given) != 1:
        raise InvalidRequestError("give one of prompt, messages and content", param="prompt")
    if body.messages is not None:
        options = dict(body.chat_template_kwargs or {})
        if body.add_generation_prompt is not None:
            options["add_generation_prompt"] = body.add_generation_prompt
        return chat_prompt(body.messages, options)
    special = body.add_special_tokens if body.content is None else body.add_special
    if special is None:
        special = body.content is None
    return TextPrompt(text=body.prompt or body.content or "", add_special=special)


def _piece(piece: bytes) -> str | list[int]:
    """Text, or bytes where there is only a part of a character."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)


ROUTES = [tokenize, detokenize]
