"""`/v1/moderations`: what the guardrails of this server say of a text."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, post
from msgspec import Meta

from inferflux_api.http.body import read_json
from inferflux_api.server import Server
from inferflux_core.errors import InvalidRequestError

__all__ = ["ROUTES", "ModerationRequest"]

_CATEGORIES: Final = (
    *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit"),
    *("illicit/violent", "self-harm", "self-harm/instructions", "self-harm/intent", "sexual"),
    *("sexual/minors", "violence", "violence/graphic"),
)
_MAX_INPUTS: Final = 256


class ModerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /v1/moderations`.

    Attributes:
        input: a text, texts, or content parts of type `text`.
        model: ignored: there is one set of guardrails.
    """

    input: str | Annotated[list[str | dict[str, Any]], Meta(max_length=_MAX_INPUTS)]
    model: str | None = None


_decoder = msgspec.json.Decoder(ModerationRequest)


@post(
    "/v1/moderations",
    status_code=200,
    opt={"scope": "generate", "body": ModerationRequest},
    tags=["OpenAI"],
)
async def moderations(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Say whether the guardrails would block or mask texts.

    OpenAI's categories are always false, since nothing here judges by them; a category
    `guardrail/NAME` for each guardrail says which of them objects.
    """
    server: Server = request.app.state.server
    body = await read_json(request, _decoder, **server.body_limits)
    verdict = await server.operations.moderate(request.user, _texts(body.input))
    results = [_result(objections) for objections in verdict.objections]
    content = {"id": f"modr-{verdict.id}", "model": "guardrails", "results": results}
    return Response(
        msgspec.json.encode(content), media_type="application/json", headers=verdict.headers
    )


def _texts(given: str | list[str | dict[str, Any]]) -> list[str]:
    if isinstance(given, str):
        return [given]
    if all(isinstance(text, str) for text in given):
        return [text for text in given if isinstance(text, str)]
    # Content parts are parts of one text.
    parts = []
    for part in given:
        text = part.get("text") if isinstance(part, dict) else part
        if not isinstance(text, str):
            raise InvalidRequestError("only text can be moderated here", param="input")
        parts.append(text)
    return ["\n".join(parts)]


def _result(objections: dict[str, bool]) -> dict[str, Any]:
    found = {f"guardrail/{name}": objects for name, objects in objections.items()}
    categories = dict.fromkeys(_CATEGORIES, False) | found
    return {
        "flagged": any(found.values()),
        "categories": categories,
        "category_scores": {name: float(value) for name, value in categories.items()},
        "category_applied_input_types": {name: ["text"] for name in categories},
    }


ROUTES = [moderations]
