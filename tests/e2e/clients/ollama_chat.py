"""Generating as a user of the ollama package would write it."""

from __future__ import annotations

import asyncio
import json
import sys

import ollama

url, key, model = sys.argv[1:]
headers = {"authorization": f"Bearer {key}"}
client = ollama.Client(host=url, headers=headers)
messages = [{"role": "user", "content": "Name the capital of France in one sentence."}]
options = {"temperature": 0, "num_predict": 24}
schema = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}

whole = client.chat(model, messages, options=options)
streamed = list(client.chat(model, messages, options=options, stream=True))
generated = client.generate(model, "Name the capital of France in one sentence.", options=options)
again = client.generate(
    model, "Say it again.", context=generated.context, options={"num_predict": 4}
)
formatted = client.chat(model, messages, format=schema, options=options | {"num_predict": 60})


def get_weather(city: str) -> str:
    """Weather of a city.

    Args:
        city: its name.
    """
    return f"{city}: rain"


with_tools = client.chat(model, messages, tools=[get_weather], options={"num_predict": 4})


async def at_once() -> list[str]:
    several = ollama.AsyncClient(host=url, headers=headers)
    found = await asyncio.gather(
        *(several.chat(model, messages, options=options) for _ in range(3))
    )
    return [answer.message.content for answer in found]


errors = {}
for name, call in {
    "unknown": lambda: client.chat("none", messages),
    "anonymous": lambda: ollama.Client(host=url).chat(model, messages),
    "no_thoughts": lambda: client.chat(model, messages, think=True),
}.items():
    try:
        call()
    except ollama.ResponseError as error:
        errors[name] = [error.status_code, error.error]

loaded = client.generate(model, "")
print(
    json.dumps(
        {
            "whole": whole.message.content,
            "streamed": "".join(part.message.content for part in streamed),
            "figures": {
                name: getattr(streamed[-1], name)
                for name in (
                    "total_duration",
                    "prompt_eval_count",
                    "prompt_eval_duration",
                    "eval_count",
                    "eval_duration",
                )
            },
            "done_reason": streamed[-1].done_reason,
            "generated": generated.response,
            "context": len(generated.context),
            "context_again": len(again.context),
            "formatted": json.loads(formatted.message.content),
            "with_tools": with_tools.done,
            "at_once": asyncio.run(at_once()),
            "running": [each.model for each in client.ps().models],
            "loaded": loaded.done_reason,
            "errors": errors,
        }
    )
)
