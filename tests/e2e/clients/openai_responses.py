"""Runs in the clients' own environment: Responses, as users of the openai package write them.

Every event that comes is checked against the package's own types: each field that they demand is there,
and no event is of a type that they do not know.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any, Literal

import openai
from openai.lib.responses_websocket import (
    AsyncResponsesWebSocketSession,
    ResponsesWebSocketError,
    ResponsesWebSocketLimits,
)
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.input_token_count_response import InputTokenCountResponse
from openai.types.responses.response_item_list import ResponseItemList
from openai.types.responses.responses_server_event import ResponsesServerEvent
from pydantic import BaseModel, TypeAdapter

url, key, model = sys.argv[1:]
client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
seen: dict[str, Any] = {}

EVENT = TypeAdapter(ResponseStreamEvent)
SOCKET_EVENT = TypeAdapter(ResponsesServerEvent)
QUESTION = "Name the capital of France in one sentence."
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "Weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


def checked(event: Any, adapter: TypeAdapter[Any] = EVENT) -> Any:
    """The event, if it is of a known type and complete."""
    data = event.model_dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)
    known = adapter.validate_python(data)
    assert known.type == event.type
    return event


def numbers(events: list[Any]) -> None:
    """Sequence numbers grow by one."""
    assert [event.sequence_number for event in events] == list(range(len(events)))


class Capital(BaseModel):
    """What is to be parsed."""

    country: Literal["France", "Italy"]
    city: Literal["Paris", "Rome"]


def whole_and_stored() -> None:
    first = client.responses.create(
        model=model,
        input=QUESTION,
        instructions="You are terse.",
        temperature=0,
        max_output_tokens=24,
        metadata={"a": "b"},
        include=["message.output_text.logprobs"],
        top_logprobs=2,
    )
    Response.model_validate(first.model_dump(mode="json", by_alias=True))
    second = client.responses.create(
        model=model,
        input=[{"role": "user", "content": "And of Italy?"}],
        previous_response_id=first.id,
        max_output_tokens=8,
        temperature=0,
    )
    items = client.responses.input_items.list(second.id)
    again = client.responses.retrieve(first.id)
    client.responses.delete(first.id)
    errors = {}
    for name, call in {
        "deleted": lambda: client.responses.retrieve(first.id),
        "continues_deleted": lambda: client.responses.create(
            model=model, input="x", previous_response_id=first.id
        ),
        "cancel": lambda: client.responses.cancel(second.id),
        "image": lambda: client.responses.create(
            model=model,
            input=[{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}],
        ),
    }.items():
        try:
            call()
        except openai.APIStatusError as error:
            errors[name] = [error.status_code, error.code]
    counted = client.responses.input_tokens.count(model=model, input=QUESTION)
    InputTokenCountResponse.model_validate(counted.model_dump())
    ResponseItemList.model_validate(
        {**items.model_dump(mode="json", by_alias=True), "first_id": "", "last_id": ""}
    )
    seen["whole"] = {
        "text": first.output_text,
        "logprobs": len(first.output[0].content[0].logprobs),
        "output_tokens": first.usage.output_tokens,
        "same_again": again == first,
        "more_input": second.usage.input_tokens - first.usage.input_tokens,
        "items": [item.content[0].text for item in items],
        "input_tokens": counted.input_tokens,
        "errors": errors,
    }


def streamed() -> None:
    with client.responses.stream(
        model=model, input=QUESTION, temperature=0, max_output_tokens=24
    ) as stream:
        events = [checked(event) for event in stream]
        final = stream.get_final_response() if events[-1].type == "response.completed" else None
    raw = list(
        client.responses.create(
            model=model, input=QUESTION, temperature=0, max_output_tokens=3, stream=True
        )
    )
    numbers([checked(event) for event in raw])
    seen["streamed"] = {
        "types": list(dict.fromkeys(event.type for event in events)),
        "text": "".join(e.delta for e in events if e.type == "response.output_text.delta"),
        "final": final.output_text if final else None,
        "short": [raw[-1].type, raw[-1].response.incomplete_details.reason],
    }


def parsed() -> None:
    answer = client.responses.parse(
        model=model,
        input=[{"role": "user", "content": f"{QUESTION} Answer in JSON."}],
        text_format=Capital,
        temperature=0,
    )
    with client.responses.stream(
        model=model, input=f"{QUESTION} Answer in JSON.", text_format=Capital, temperature=0
    ) as stream:
        for event in stream:
            checked(event)
        final = stream.get_final_response()
    assert isinstance(answer.output_parsed, Capital)
    assert isinstance(final.output_parsed, Capital)
    seen["parsed"] = [answer.output_parsed.model_dump(), final.output_parsed.model_dump()]


def called() -> None:
    question = "What is the weather in Paris?"
    common: Any = {"model": model, "tools": [WEATHER], "temperature": 0}
    first = client.responses.create(
        input=question, tool_choice="required", max_output_tokens=200, **common
    )
    call = next(item for item in first.output if item.type == "function_call")
    with client.responses.stream(
        input=question,
        tool_choice={
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "function", "name": "get_weather"}],
        },
        parallel_tool_calls=False,
        **common,
    ) as stream:
        events = [checked(event) for event in stream]
        arguments = stream.get_final_response().output[-1].parsed_arguments
    answer = client.responses.create(
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "It rains."}],
        previous_response_id=first.id,
        max_output_tokens=24,
        **common,
    )
    replayed = client.responses.create(
        input=[
            {"role": "user", "content": question},
            *first.output,
            {"type": "function_call_output", "call_id": call.call_id, "output": "It rains."},
        ],
        max_output_tokens=24,
        **common,
    )
    seen["called"] = {
        "name": call.name,
        "arguments": json.loads(call.arguments),
        "streamed": arguments,
        "types": list(dict.fromkeys(event.type for event in events)),
        "answer": answer.status,
        "alike": answer.usage.input_tokens == replayed.usage.input_tokens,
    }


def background() -> None:
    queued = client.responses.create(
        model=model, input=QUESTION, temperature=0, max_output_tokens=24, background=True
    )
    deadline = time.monotonic() + 60
    while (now := client.responses.retrieve(queued.id)).status in ("queued", "in_progress"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stream = client.responses.create(
        model=model,
        input="Count to a thousand.",
        background=True,
        stream=True,
        max_output_tokens=400,
    )
    events = []
    for event in stream:
        events.append(checked(event))
        if event.type == "response.output_text.delta":
            break
    stream.close()
    numbers(events)
    name = events[0].response.id
    cancelled = client.responses.cancel(name)
    rest = list(
        client.responses.retrieve(name, stream=True, starting_after=events[-1].sequence_number)
    )
    seen["background"] = {
        "first": queued.status,
        "last": now.status,
        "text": now.output_text,
        "cancelled": cancelled.status,
        "resumed_at": rest[0].sequence_number - events[-1].sequence_number if rest else 1,
    }


def over_socket() -> None:
    with client.responses.connect() as connection:
        connection.response.create(
            model=model, input=QUESTION, temperature=0, max_output_tokens=24, store=False
        )
        events = []
        for event in connection:
            events.append(checked(event, SOCKET_EVENT))
            if event.type in ("response.completed", "response.incomplete"):
                break
        numbers(events)
        last = events[-1].response
        connection.response.create(
            model=model, input="And of Italy?", previous_response_id=last.id, max_output_tokens=4
        )
        more = []
        for event in connection:
            more.append(checked(event, SOCKET_EVENT))
            if event.type in ("response.completed", "response.incomplete"):
                break
        connection.response.steer(input="Stop.", previous_response_id=last.id)
        steered = checked(connection.recv(), SOCKET_EVENT)
    seen["socket"] = {
        "text": last.output_text,
        "more_input": more[-1].response.usage.input_tokens - last.usage.input_tokens,
        "steered": [steered.type, steered.error.code],
    }


async def over_lanes() -> None:
    limits = ResponsesWebSocketLimits(
        max_lanes=8,
        max_events_per_lane=1000,
        max_events=4000,
        max_bytes_per_lane=1 << 22,
        max_bytes=1 << 24,
        max_response_bytes=None,
    )
    aclient = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)

    async def ask(lane: Any, **fields: Any) -> Any:
        await lane.send({"type": "response.create", "model": model, "temperature": 0, **fields})
        return await lane.get_final_response()

    async with (
        aclient.responses.connect() as connection,
        AsyncResponsesWebSocketSession(connection, limits=limits) as session,
    ):
        lanes = [session.lane("a"), session.lane("b")]
        both = await asyncio.gather(
            *(ask(lane, input=QUESTION, max_output_tokens=24) for lane in lanes)
        )
        warm = await ask(session.default, input=QUESTION, generate=False)
        after = await ask(
            session.default, input="Be brief.", previous_response_id=warm.id, max_output_tokens=4
        )
        try:
            await ask(lanes[0], input="x", previous_response_id="resp_no")
            problem = None
        except ResponsesWebSocketError as error:
            problem = error.event.error.code
    seen["lanes"] = {
        "texts": [response.output_text for response in both],
        "warm": [warm.status, warm.output],
        "more_input": after.usage.input_tokens - warm.usage.input_tokens,
        "problem": problem,
    }


for part in (whole_and_stored, streamed, parsed, called, background, over_socket):
    part()
asyncio.run(over_lanes())
print(json.dumps(seen))
