"""LangChain's chat models and embeddings, over OpenAI's API and Ollama's."""

from __future__ import annotations

import asyncio
import json
import sys

import httpx
import ollama
import openai
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

url, key, model = sys.argv[1:]
question = "Name the capital of France in one sentence."


class City(BaseModel):
    """A city."""

    name: str
    capital: bool


@tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    return f"{city}: rain"


def gist(message: AIMessage) -> dict:
    return {
        "text": message.text,
        "calls": [{"name": c["name"], "args": c["args"]} for c in message.tool_calls],
        "usage": message.usage_metadata,
        "metadata": message.response_metadata,
    }


def streamed(chat: ChatOpenAI | ChatOllama) -> dict:
    whole = None
    for chunk in chat.stream(question):
        whole = chunk if whole is None else whole + chunk
    return gist(whole)


def conversation(chat: ChatOpenAI) -> dict:
    asked = HumanMessage("What is the weather in Paris?")
    called = chat.bind_tools([get_weather], tool_choice="get_weather").invoke([asked])
    (call,) = called.tool_calls
    result = ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])
    answer = chat.bind_tools([get_weather], tool_choice="none").invoke([asked, called, result])
    return {"called": gist(called), "answer": gist(answer)}


async def at_once(chat: ChatOpenAI | ChatOllama) -> list[str]:
    return [
        answer.text for answer in await asyncio.gather(*(chat.ainvoke(question) for _ in "123"))
    ]


def failure(work, *kinds: type[Exception]) -> str:
    try:
        work()
    except kinds as error:
        return type(error).__name__
    return "nothing went wrong"


settings = {"base_url": f"{url}/v1", "api_key": key, "max_retries": 0}
limits = {"temperature": 0, "max_tokens": 24}
chat = ChatOpenAI(model=model, stream_usage=True, **limits, **settings)
responses = ChatOpenAI(model=model, use_responses_api=True, **limits, **settings)
headers = {"headers": {"authorization": f"Bearer {key}"}}
local = ChatOllama(model=model, base_url=url, temperature=0, num_predict=24, client_kwargs=headers)
wordy = {**limits, "max_tokens": 160}
formatted = ChatOpenAI(model=model, **wordy, **settings)

seen = {
    "openai": {
        "whole": gist(chat.invoke(question)),
        "streamed": streamed(chat),
        "at_once": asyncio.run(at_once(chat)),
        "batch": [answer.text for answer in chat.batch([question, question])],
        "tools": conversation(formatted),
        "formatted": formatted.with_structured_output(City).invoke(question).model_dump(),
        "by_call": formatted.with_structured_output(City, method="function_calling")
        .invoke(question)
        .model_dump(),
    },
    "responses": {
        "whole": gist(responses.invoke(question)),
        "streamed": streamed(responses),
        "called": gist(
            ChatOpenAI(model=model, use_responses_api=True, **wordy, **settings)
            .bind_tools([get_weather], tool_choice="get_weather")
            .invoke("What is the weather in Paris?")
        ),
    },
    "ollama": {
        "whole": gist(local.invoke(question)),
        "streamed": streamed(local),
        "at_once": asyncio.run(at_once(local)),
        "formatted": ChatOllama(
            model=model, base_url=url, temperature=0, num_predict=160, client_kwargs=headers
        )
        .with_structured_output(City, method="json_schema")
        .invoke(question)
        .model_dump(),
        "with_tools": gist(local.bind_tools([get_weather]).invoke(question)),
    },
    "embeddings": {
        "openai": [
            len(vector)
            for vector in OpenAIEmbeddings(
                model=model, check_embedding_ctx_length=False, **settings
            ).embed_documents(["one", "two"])
        ],
        "openai_tokens": len(
            OpenAIEmbeddings(
                model=model, tiktoken_enabled=False, check_embedding_ctx_length=False, **settings
            ).embed_query("three")
        ),
        "ollama": [
            len(vector)
            for vector in OllamaEmbeddings(
                model=model, base_url=url, client_kwargs=headers
            ).embed_documents(["one", "two"])
        ],
    },
    "errors": {
        "key": failure(
            lambda: ChatOpenAI(model=model, **{**settings, "api_key": "wrong"}).invoke(question),
            openai.AuthenticationError,
        ),
        "model": failure(
            lambda: ChatOpenAI(model="missing", **settings).invoke(question), openai.NotFoundError
        ),
        "ollama_model": failure(
            lambda: ChatOllama(model="missing", base_url=url, client_kwargs=headers).invoke(
                question
            ),
            ollama.ResponseError,
            httpx.HTTPError,
        ),
    },
}
print(json.dumps(seen, default=str))
