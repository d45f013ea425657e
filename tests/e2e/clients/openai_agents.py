"""Agents of OpenAI's SDK for agents, over chat completions and over Responses."""

from __future__ import annotations

import asyncio
import json
import sys

import openai
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from pydantic import BaseModel

url, key, model = sys.argv[1:]
set_tracing_disabled(True)
client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
called: list[str] = []


class City(BaseModel):
    name: str
    capital: bool


@function_tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    called.append(city)
    return f"{city}: rain"


async def tried(kind) -> dict:
    settings = ModelSettings(temperature=0, max_tokens=60)
    plain = Agent(name="plain", instructions="Be brief.", model=kind, model_settings=settings)
    whole = await Runner.run(plain, "Name the capital of France in one sentence.")
    run = Runner.run_streamed(plain, "Name the capital of France in one sentence.")
    events = {event.type async for event in run.stream_events()}
    called.clear()
    weather = Agent(
        name="weather",
        model=kind,
        tools=[get_weather],
        tool_use_behavior="stop_on_first_tool",
        model_settings=ModelSettings(
            temperature=0, max_tokens=60, tool_choice="required", parallel_tool_calls=False
        ),
    )
    answered = await Runner.run(weather, "What is the weather in Paris?", max_turns=4)
    cities = list(called)
    longer = ModelSettings(temperature=0, max_tokens=200)
    formatted = Agent(name="typed", model=kind, output_type=City, model_settings=longer)
    city = await Runner.run(formatted, "Name the capital of France in one sentence.")
    usage = whole.context_wrapper.usage
    return {
        "whole": whole.final_output,
        "streamed": run.final_output,
        "events": sorted(events),
        "cities": cities,
        "answered": answered.final_output,
        "items": [item.type for item in answered.new_items],
        "formatted": city.final_output.model_dump(),
        "usage": [usage.input_tokens, usage.output_tokens],
    }


async def failure() -> str:
    missing = Agent(name="x", model=OpenAIChatCompletionsModel("missing", client))
    try:
        await Runner.run(missing, "hello")
    except openai.NotFoundError as error:
        return error.code
    return "nothing went wrong"


async def main() -> dict:
    return {
        "chat": await tried(OpenAIChatCompletionsModel(model, client)),
        "responses": await tried(OpenAIResponsesModel(model, client)),
        "failure": await failure(),
    }


print(json.dumps(asyncio.run(main())))
