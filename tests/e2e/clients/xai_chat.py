"""Chats as a user of the xai-sdk package would write them."""

from __future__ import annotations

import asyncio
import json
import sys

import grpc
from pydantic import BaseModel
from xai_sdk import AsyncClient, Client
from xai_sdk.chat import tool, tool_result, user

address, key, model = sys.argv[1:]
options = {"api_host": address, "use_insecure_channel": True}
client = Client(api_key=key, **options)
asked = {"model": model, "temperature": 0, "max_tokens": 40}
paris = user("Name the capital of France in one sentence.")


class City(BaseModel):
    name: str
    capital: bool


weather = tool(
    name="get_weather",
    description="Weather of a city.",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
)

chat = client.chat.create(**asked, messages=[paris])
answer = chat.sample()
chat.append(answer)
chat.append(user("And of Italy?"))
second = chat.sample()

streaming = client.chat.create(**asked, messages=[paris])
responses, chunks = zip(*streaming.stream(), strict=True)
pieces, streamed = [chunk.content for chunk in chunks], responses[-1]

calling = client.chat.create(
    **asked | {"max_tokens": 80},
    messages=[user("Weather in Paris?")],
    tools=[weather],
    tool_choice="required",
    parallel_tool_calls=False,
)
called = calling.sample()
calls_streamed = [call.function.name for _, chunk in calling.stream() for call in chunk.tool_calls]
calling.append(called)
calling.append(tool_result("It rains.", tool_call_id=called.tool_calls[0].id))
calling.proto.ClearField("tool_choice")
after_call = calling.sample()

parsing = client.chat.create(**asked, messages=[paris])
_, parsed = parsing.parse(City)
batch = client.chat.create(**asked, messages=[paris], logprobs=True, top_logprobs=2)
several = batch.sample_batch(2)


def problem(call) -> str:
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name
    return "none"


async def at_once() -> list[str]:
    several = AsyncClient(api_key=key, **options)
    chats = [several.chat.create(**asked | {"max_tokens": 8}, messages=[paris]) for _ in range(3)]
    return [each.content for each in await asyncio.gather(*(chat.sample() for chat in chats))]


print(
    json.dumps(
        {
            "text": answer.content,
            "finish_reason": answer.finish_reason,
            "usage": [answer.usage.prompt_tokens, answer.usage.completion_tokens],
            "second": second.content,
            "pieces": pieces,
            "streamed": streamed.content,
            "streamed_end": [streamed.finish_reason, streamed.usage.completion_tokens],
            "call": [called.tool_calls[0].function.name, called.tool_calls[0].function.arguments],
            "called_end": called.finish_reason,
            "calls_streamed": calls_streamed,
            "after_call": after_call.finish_reason,
            "parsed": parsed.model_dump(),
            "several": [each.content for each in several],
            "logprobs": len(several[0].logprobs.content),
            "at_once": asyncio.run(at_once()),
            "models": [each.name for each in client.models.list_language_models()],
            "context": client.models.get_language_model(model).max_prompt_length,
            "tokens": [t.string_token for t in client.tokenize.tokenize_text("Hello world", model)],
            "wrong_key": problem(
                Client(api_key="x", **options).chat.create(model, messages=[paris]).sample
            ),
            "wrong_model": problem(client.chat.create("nope", messages=[paris]).sample),
            "bad_value": problem(client.chat.create(model, messages=[paris], max_tokens=0).sample),
        }
    )
)
