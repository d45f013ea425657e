"""What a user of the lmstudio package would write. The API key goes into the address."""

from __future__ import annotations

import asyncio
import json
import sys

import lmstudio
from pydantic import BaseModel

url, key, name = sys.argv[1:]
address = url.removeprefix("http://")
host = f"user:{key}@{address}"
greedy = {"temperature": 0, "maxTokens": 24}
question = "Name the capital of France in one sentence."


class City(BaseModel):
    name: str


called = []


def get_weather(city: str) -> str:
    """Weather of a city."""
    called.append(city)
    return "rain"


with lmstudio.Client(host) as client:
    llm = client.llm.model(name)
    chat = lmstudio.Chat("You answer in one sentence.")
    chat.add_user_message(question)
    progress = []
    whole = llm.respond(chat, config=greedy, on_prompt_processing_progress=progress.append)
    stream = llm.respond_stream(chat, config=greedy)
    pieces = [fragment.content for fragment in stream]
    figures = stream.result().stats
    stream = llm.respond_stream(chat, config={"temperature": 0, "maxTokens": 400})
    for count, _ in enumerate(stream):
        if count == 2:
            stream.cancel()
    cancelled = stream.result().stats.stop_reason
    completed = llm.complete("1, 2, 3, 4,", config={"temperature": 0, "maxTokens": 8})
    parsed = llm.respond(
        question, response_format=City, config={"temperature": 0, "maxTokens": 60}
    ).parsed
    acted = llm.act(question, [get_weather], max_prediction_rounds=1, config={"maxTokens": 8})
    tokens = llm.tokenize("Hello there")
    seen = {
        "whole": whole.content,
        "progress": progress,
        "streamed": "".join(pieces),
        "pieces": len(pieces),
        "stop_reason": figures.stop_reason,
        "predicted": figures.predicted_tokens_count,
        "cancelled": cancelled,
        "completed": completed.content,
        "parsed": parsed,
        "rounds": acted.rounds,
        "tokens": len(tokens),
        "counted": llm.count_tokens("Hello there"),
        "context": llm.get_context_length(),
        "template": llm.apply_prompt_template(chat),
        "info": llm.get_info().model_key,
        "loaded": [each.identifier for each in client.list_loaded_models()],
        "downloaded": [each.model_key for each in client.list_downloaded_models()],
        "load_config": llm.get_load_config().context_length,
    }
    try:
        client.llm.model("none").respond("x")
    except lmstudio.LMStudioModelNotFoundError:
        seen["unknown"] = "LMStudioModelNotFoundError"
    llm.unload()
    seen["after_unload"] = len(client.llm.list_loaded())
    again = client.llm.load_new_instance(name)
    seen["loaded_again"] = again.identifier

try:
    with lmstudio.Client(address) as client:
        client.llm.list_loaded()
except lmstudio.LMStudioError as error:
    seen["anonymous"] = type(error).__name__


async def async_answer() -> str:
    async with lmstudio.AsyncClient(host) as several:
        model = await several.llm.model(name)
        return (await model.respond(chat, config=greedy)).content


seen["async"] = asyncio.run(async_answer())
print(json.dumps(seen))
