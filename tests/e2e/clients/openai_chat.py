"""Runs in the clients' own environment: what a user of the openai package would write."""

from __future__ import annotations

import json
import sys

import openai

url, key, model = sys.argv[1:]
client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
messages = [{"role": "user", "content": "Name the capital of France in one sentence."}]

streamed = ""
usage = None
for chunk in client.chat.completions.create(
    model=model,
    messages=messages,
    temperature=0,
    max_tokens=32,
    stream=True,
    stream_options={"include_usage": True},
):
    if chunk.usage:
        usage = chunk.usage.model_dump()
    if chunk.choices:
        streamed += chunk.choices[0].delta.content or ""

whole = client.chat.completions.create(
    model=model, messages=messages, temperature=0, max_tokens=32, logprobs=True, top_logprobs=2
)
completion = client.completions.create(
    model=model, prompt="1, 2, 3, 4,", temperature=0, max_tokens=8
)

errors = {}
for name, call in {
    "authentication": lambda: openai.OpenAI(base_url=f"{url}/v1", api_key="no").models.list(),
    "not_found": lambda: client.models.retrieve("no-such-model"),
    "bad_request": lambda: client.chat.completions.create(
        model=model, messages=messages, temperature=99
    ),
}.items():
    try:
        call()
    except openai.APIStatusError as error:
        errors[name] = type(error).__name__

print(
    json.dumps(
        {
            "streamed": streamed,
            "usage": usage,
            "whole": whole.choices[0].message.content,
            "logprobs": len(whole.choices[0].logprobs.content),
            "completion": completion.choices[0].text,
            "models": [m.id for m in client.models.list()],
            "errors": errors,
        }
    )
)
