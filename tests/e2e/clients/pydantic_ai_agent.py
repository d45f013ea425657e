"""Agents of pydantic-ai, over chat completions and over Responses."""

from __future__ import annotations

import asyncio
import json
import sys

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import UsageLimits

url, key, model = sys.argv[1:]
provider = OpenAIProvider(base_url=f"{url}/v1", api_key=key)
chat = OpenAIChatModel(model, provider=provider)
responses = OpenAIResponsesModel(model, provider=provider)
settings = {"temperature": 0, "max_tokens": 160}
question = "Name the capital of France in one sentence."


class City(BaseModel):
    name: str
    capital: bool


def plain(kind) -> dict:
    done = Agent(kind, model_settings=settings).run_sync(question)
    usage = done.usage
    return {"text": done.output, "input": usage.input_tokens, "output": usage.output_tokens}


async def streamed(kind) -> str:
    async with Agent(kind, model_settings=settings).run_stream(question) as run:
        return "".join([piece async for piece in run.stream_text(delta=True)])


def by_tool(kind) -> dict:
    """The answer is demanded as a call of a tool."""
    return (
        Agent(kind, output_type=City, model_settings=settings)
        .run_sync(question)
        .output.model_dump()
    )


def native(kind) -> dict:
    """The answer is demanded as a JSON schema."""
    agent = Agent(kind, output_type=NativeOutput(City), model_settings=settings)
    return agent.run_sync(question).output.model_dump()


def with_tool() -> list[str]:
    """A tool of ours stands beside the demanded answer; a small model may call it or not."""
    called: list[str] = []
    agent = Agent(chat, output_type=City, model_settings=settings)

    @agent.tool_plain
    def get_population(city: str) -> int:
        """Number of people in a city."""
        called.append(city)
        return 2_100_000

    try:
        agent.run_sync(question, usage_limits=UsageLimits(request_limit=3))
    except Exception as error:
        return [type(error).__name__, *called]
    return ["answered", *called]


def failure() -> int:
    wrong = OpenAIChatModel("missing", provider=provider)
    try:
        Agent(wrong).run_sync(question)
    except ModelHTTPError as error:
        return error.status_code
    return 0


print(
    json.dumps(
        {
            "chat": {
                "plain": plain(chat),
                "streamed": asyncio.run(streamed(chat)),
                "by_tool": by_tool(chat),
                "native": native(chat),
            },
            "responses": {
                "plain": plain(responses),
                "streamed": asyncio.run(streamed(responses)),
                "by_tool": by_tool(responses),
                "native": native(responses),
            },
            "with_tool": with_tool(),
            "failure": failure(),
        }
    )
)
