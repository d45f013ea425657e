"""Tools, parse helpers, files and batches as a user of the openai package would write them."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import openai
from pydantic import BaseModel

url, key, model = sys.argv[1:]
client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
messages = [{"role": "user", "content": "What is the weather in Paris?"}]


class GetWeather(BaseModel):
    """Weather of a city."""

    city: str


class City(BaseModel):
    name: str
    capital: bool


tool = openai.pydantic_function_tool(GetWeather)
named = {"type": "function", "function": {"name": "GetWeather"}}
asked = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 60}


def call_of(message) -> dict:
    (call,) = message.tool_calls
    return {"name": call.function.name, "arguments": json.loads(call.function.arguments)}


demanded = client.chat.completions.create(
    **asked, tools=[tool], tool_choice="required", parallel_tool_calls=False
).choices[0]
chunks = list(client.chat.completions.create(**asked, tools=[tool], tool_choice=named, stream=True))
streamed = "".join(
    call.function.arguments or ""
    for chunk in chunks
    for call in chunk.choices[0].delta.tool_calls or []
)
with client.chat.completions.stream(**asked, tools=[tool], tool_choice=named) as stream:
    events = [event.type for event in stream]
    final = stream.get_final_completion().choices[0].message
parsed = client.chat.completions.parse(**asked, response_format=City).choices[0].message.parsed
answered = client.chat.completions.create(
    model=model,
    messages=[
        *messages,
        demanded.message.model_dump(exclude_none=True),
        {
            "role": "tool",
            "tool_call_id": demanded.message.tool_calls[0].id,
            "content": "It rains.",
        },
    ],
    tools=[tool],
    tool_choice="none",
    max_tokens=16,
).choices[0]


async def at_once() -> list[str]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as several:
        answers = await asyncio.gather(
            *(several.chat.completions.create(**asked | {"max_tokens": 8}) for _ in range(4))
        )
    return [answer.choices[0].message.content for answer in answers]


lines = [
    {
        "custom_id": f"n{i}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": asked | {"max_tokens": 4},
    }
    for i in range(3)
]
file = client.files.create(
    file=("in.jsonl", "\n".join(map(json.dumps, lines)).encode()), purpose="batch"
)
batch = client.batches.create(
    input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
)
while batch.status not in ("completed", "failed"):
    time.sleep(0.1)
    batch = client.batches.retrieve(batch.id)
output = client.files.content(batch.output_file_id).text.splitlines()
client.files.delete(file.id)

print(
    json.dumps(
        {
            "demanded": call_of(demanded.message),
            "finish_reason": demanded.finish_reason,
            "streamed": json.loads(streamed),
            "finish_streamed": chunks[-1].choices[0].finish_reason,
            "events": sorted(set(events)),
            "parsed_call": final.tool_calls[0].function.parsed_arguments.model_dump(),
            "parsed": parsed.model_dump(),
            "answered": answered.finish_reason,
            "at_once": asyncio.run(at_once()),
            "batch": batch.status,
            "batch_ids": sorted(json.loads(line)["custom_id"] for line in output),
            "files": [each.id for each in client.files.list()],
            "batches": [each.id for each in client.batches.list()],
        }
    )
)
