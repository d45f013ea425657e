"""What the lmstudio package does around a model: tools that are called, embeddings, several at once."""

from __future__ import annotations

import asyncio
import json
import sys

import lmstudio

url, key, name = sys.argv[1:]
address = url.removeprefix("http://")
host = f"user:{key}@{address}"
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'

called = []
messages = []
seen: dict[str, object] = {}


def get_weather(city: str) -> str:
    """Weather of a city."""
    called.append(city)
    return f"[say]It rains in {city}.[/say]"


with lmstudio.Client(host) as client:
    llm = client.llm.model(name)
    acted = llm.act(f"[say]Let me see. {CALL}[/say]", [get_weather], on_message=messages.append)
    seen["called"] = called
    seen["rounds"] = acted.rounds
    seen["roles"] = [message.role for message in messages]
    seen["said"] = messages[-1].content[0].text
    embedder = client.embedding.model(name)
    seen["vectors"] = [len(vector) for vector in embedder.embed(["ab", "c"])]
    progress: list[float] = []
    llm.unload()
    again = client.llm.model(name, on_load_progress=progress.append)
    seen["load_progress"] = progress
    stream = again.respond_stream("[slow] go on", config={"maxTokens": 2000})
    with stream:
        stream.cancel()
        seen["cancelled_at_once"] = stream.wait_for_result().stats.stop_reason
    for case, preset, history in (
        ("preset", "mine", "x"),
        ("empty", None, lmstudio.Chat()),
    ):
        try:
            again.respond(history, preset=preset)
        except lmstudio.LMStudioServerError as error:
            seen[case] = type(error).__name__
    try:
        client.files.prepare_image(b"\x89PNG\r\n")
    except lmstudio.LMStudioServerError as error:
        seen["image"] = type(error).__name__
    try:
        client.repository.search_models("smollm")
    except lmstudio.LMStudioServerError as error:
        seen["search"] = type(error).__name__


async def several() -> None:
    async with lmstudio.AsyncClient(host) as client:
        model = await client.llm.model(name)
        stream = await model.respond_stream("[say]one two three[/say]")
        pieces = [fragment.content async for fragment in stream]
        seen["async_stream"] = "".join(pieces)
        answers = await asyncio.gather(
            *(model.respond(f"[say]number {number}[/say]") for number in range(4))
        )
        seen["at_once"] = [answer.content for answer in answers]
        stream = await model.respond_stream("[slow] go on", config={"maxTokens": 2000})
        async for _ in stream:
            await stream.cancel()
        seen["async_cancelled"] = stream.result().stats.stop_reason


asyncio.run(several())
print(json.dumps(seen))
