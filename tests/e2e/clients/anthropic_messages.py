"""Messages as a user of the anthropic package would write them."""

from __future__ import annotations

import asyncio
import json
import sys

import anthropic

url, key, model = sys.argv[1:]
client = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)
messages = [{"role": "user", "content": "Name the capital of France in one sentence."}]
asked = {"model": model, "messages": messages, "max_tokens": 32, "extra_body": {"temperature": 0}}
tool = {
    "name": "get_weather",
    "description": "Weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}

whole = client.messages.create(**asked, system="You answer in one sentence.")
with client.messages.stream(**asked) as stream:
    text = "".join(stream.text_stream)
    final = stream.get_final_message()
with client.messages.stream(
    **asked, tools=[tool], tool_choice={"type": "tool", "name": "get_weather"}
) as stream:
    kinds = sorted({event.type for event in stream})
    called = stream.get_final_message()
(use,) = called.content
answered = client.messages.create(
    model=model,
    max_tokens=8,
    tools=[tool],
    tool_choice={"type": "none"},
    messages=[
        *messages,
        {"role": "assistant", "content": called.content},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "It rains."}],
        },
    ],
)
stopped = client.messages.create(**asked, stop_sequences=["Paris"])
counted = client.messages.count_tokens(model=model, messages=messages)


async def at_once() -> list[str]:
    async with anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0) as several:
        found = await asyncio.gather(*(several.messages.create(**asked) for _ in range(3)))
    return [message.content[0].text for message in found]


errors = {}
for name, call in {
    "authentication": lambda: anthropic.Anthropic(base_url=url, api_key="no").models.list(),
    "not_found": lambda: client.messages.create(**asked | {"model": "none"}),
    "bad_request": lambda: client.messages.create(**asked | {"max_tokens": 0}),
}.items():
    try:
        call()
    except anthropic.APIStatusError as error:
        errors[name] = type(error).__name__

print(
    json.dumps(
        {
            "whole": whole.content[0].text,
            "streamed": text,
            "final": final.content[0].text,
            "stop_reason": final.stop_reason,
            "usage": final.usage.input_tokens + (final.usage.cache_read_input_tokens or 0),
            "counted": counted.input_tokens,
            "events": kinds,
            "call": {"name": use.name, "input": use.input, "reason": called.stop_reason},
            "answered": answered.type,
            "stopped": [stopped.stop_reason, stopped.stop_sequence],
            "at_once": asyncio.run(at_once()),
            "models": [each.id for each in client.models.list()],
            "model": client.models.retrieve(model).type,
            "errors": errors,
        }
    )
)
