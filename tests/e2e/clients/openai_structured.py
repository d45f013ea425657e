"""Runs in the clients' own environment: structured output as a user of the openai package asks for it."""

from __future__ import annotations

import json
import sys
from enum import Enum
from typing import Annotated

import openai
from pydantic import BaseModel, Field

url, key, model = sys.argv[1:]
client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


class Kind(Enum):
    """What a place is."""

    CITY = "city"
    COUNTRY = "country"


class Place(BaseModel):
    """A place on earth."""

    name: Annotated[str, Field(max_length=20)]
    kind: Kind
    languages: Annotated[list[Annotated[str, Field(max_length=20)]], Field(max_length=2)]
    founded: Annotated[int, Field(le=2025)] | None


question = {"role": "user", "content": "Tell me about Paris in JSON."}
options = {"model": model, "messages": [question], "temperature": 0, "max_tokens": 200}

parsed = client.chat.completions.parse(response_format=Place, **options)
place = parsed.choices[0].message.parsed

with client.chat.completions.stream(response_format=Place, **options) as stream:
    for _ in stream:
        pass
    streamed = stream.get_final_completion().choices[0].message.parsed

free = client.chat.completions.create(response_format={"type": "json_object"}, **options)
choice = client.chat.completions.create(
    extra_body={"structured_outputs": {"choice": ["Paris", "Rome", "Berlin"]}},
    **{
        **options,
        "messages": [{"role": "user", "content": "Name the capital of France in one sentence."}],
    },
)
try:
    client.chat.completions.create(
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "none", "schema": {"enum": []}},
        },
        **options,
    )
    refused = ""
except openai.BadRequestError as error:
    refused = error.message

print(
    json.dumps(
        {
            "parsed": isinstance(place, Place) and place.model_dump(mode="json"),
            "raw": parsed.choices[0].message.content,
            "streamed": isinstance(streamed, Place) and streamed.model_dump(mode="json"),
            "object": free.choices[0].message.content,
            "object_reason": free.choices[0].finish_reason,
            "choice": choice.choices[0].message.content,
            "refused": refused,
        }
    )
)
