"""`truncation: auto`: what is left of a conversation that is too long."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from inferflux_api.conversation import Conversation
from inferflux_api.server import Server
from inferflux_core.engine.protocol import Tokenize, Tokens
from inferflux_core.errors import InvalidRequestError

__all__ = ["shortened"]


async def shortened(
    server: Server, model: str | None, conversation: Conversation, max_output_tokens: int | None
) -> Conversation:
    """The conversation without its oldest messages, as few as can be: system messages at its head stay.

    Half of the context is left for the answer at most, and a quarter of it if nobody says how long that
    may get.

    Raises:
        InvalidRequestError: the last message alone is too long; or the template refuses what is left.
    """
    target = server.engines.resolve(model)
    async with server.engines.lease(target.model):
        engine = target.model.engine
        context = engine.info.max_model_len
        room = context - min(max_output_tokens or context // 4, context // 2)

        async def fits(start: int) -> bool:
            prompt = _from(conversation, start).prompt()
            answer = await engine.call(Tokenize(call_id=engine.next_id(), prompt=prompt))
            assert isinstance(answer, Tokens)
            return len(answer.token_ids) <= room

        starts = _starts(conversation.messages)
        if not starts or not await fits(starts[-1]):
            raise InvalidRequestError(
                f"even without all earlier items the prompt has over {room} of the {context} tokens of "
                "this model's context; shorten the last message, or max_output_tokens",
                param="input",
            )
        low, high = 0, len(starts) - 1
        while low < high:
            middle = (low + high) // 2
            if await fits(starts[middle]):
                high = middle
            else:
                low = middle + 1
    return _from(conversation, starts[low])


def _head(messages: list[dict[str, Any]]) -> int:
    """How many messages at the beginning are the system's."""
    roles = [message["role"] == "system" for message in messages]
    return roles.index(False) if False in roles else len(roles)


def _starts(messages: list[dict[str, Any]]) -> list[int]:
    """Where a conversation may begin: with a message of the user, as templates demand."""
    head = _head(messages)
    return [i for i in range(head + 1, len(messages)) if messages[i]["role"] == "user"]


def _from(conversation: Conversation, start: int) -> Conversation:
    messages = conversation.messages
    return replace(conversation, messages=messages[: _head(messages)] + messages[start:])
