from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from litestar.exceptions import WebSocketDisconnect

from inferflux_api.dialects.lmstudio.chat_events import ChatEvents
from inferflux_api.dialects.lmstudio.errors import PresetNotFoundError, respond_error, sdk_error
from inferflux_api.dialects.lmstudio.sdk.calls import Caller
from inferflux_api.dialects.lmstudio.sdk.channels import CHANNELS
from inferflux_api.dialects.lmstudio.sdk.session import Session
from inferflux_api.dialects.lmstudio.stats import stop_reason, tokens_per_second
from inferflux_api.engines import Target
from inferflux_api.generation import Delta, GenerationRequest, Usage
from inferflux_api.pipeline import Generation
from inferflux_core.auth import Principal
from inferflux_core.errors import AuthenticationError, EngineError, InferFluxError, RateLimitedError
from inferflux_core.tool_calls.parser import ToolCallDelta


class FakeGeneration:
    """Says what it is told to."""

    model_name = "m"
    seconds, first_token_seconds, load_seconds = 3.0, 1.0, 0.5

    def __init__(self, *deltas: Delta) -> None:
        self._deltas = deltas
        self.usage = Usage(prompt_tokens=10, completion_tokens=5)
        self.model = SimpleNamespace(engine=SimpleNamespace(info=SimpleNamespace(max_model_len=64)))
        self.closed = False

    async def deltas(self) -> AsyncIterator[Delta]:
        for delta in self._deltas:
            yield delta

    async def close(self) -> None:
        self.closed = True


def generation(*deltas: Delta) -> Generation:
    return cast(Generation, FakeGeneration(*deltas))


def parsed(events: bytes) -> list[dict[str, Any]]:
    blocks = events.decode().removesuffix("\n\n").split("\n\n")
    return [json.loads(block.partition("\ndata: ")[2]) for block in blocks]


def kinds(events: bytes) -> list[str]:
    return [event["type"] for event in parsed(events)]


# ------------------------------------------------------------------------------------- REST


def test_every_kind_of_output_is_opened_and_closed() -> None:
    events = ChatEvents(generation(), was_loaded=True, keep=lambda text: f"resp_{text}")
    sent = events.delta(Delta(0, "", reasoning="hm"))
    sent += events.delta(Delta(0, 'sm"all', reasoning="!"))
    sent += events.delta(Delta(0, " talk", "stop"))
    sent += asyncio.run(events.end())
    last = parsed(sent)[-1]["result"]

    assert kinds(sent) == [
        "reasoning.start",
        "reasoning.delta",
        "reasoning.delta",
        "reasoning.end",
        "message.start",
        "message.delta",
        "message.delta",
        "message.end",
        "chat.end",
    ]
    assert last["output"] == [
        {"type": "reasoning", "content": "hm!"},
        {"type": "message", "content": 'sm"all talk'},
    ]
    assert last["response_id"] == 'resp_sm"all talk'


def test_an_error_is_told_before_the_chat_ends_and_nothing_is_kept() -> None:
    kept: list[str] = []

    def keep(text: str) -> str:
        kept.append(text)
        return "resp_1"

    events = ChatEvents(generation(), was_loaded=True, keep=keep)
    sent = events.delta(Delta(0, "half")) + events.error(EngineError("out of memory"))
    *_, error, end = parsed(sent)

    assert kinds(sent)[-3:] == ["message.end", "error", "chat.end"]
    assert (error["error"]["type"], error["error"]["message"]) == (
        "internal_error",
        "out of memory",
    )
    assert end["result"]["output"] == [{"type": "message", "content": "half"}]
    assert "response_id" not in end["result"]
    assert not kept


def test_an_answer_that_is_not_stored_has_no_id() -> None:
    events = ChatEvents(generation(), was_loaded=True, keep=lambda _: None)

    assert "response_id" not in parsed(asyncio.run(events.end()))[-1]["result"]


@pytest.mark.parametrize("was_loaded", [True, False])
def test_loading_is_told_of_if_there_was_any(was_loaded: bool) -> None:
    events = ChatEvents(generation(), was_loaded=was_loaded, keep=lambda _: None)

    assert ("model_load.end" in kinds(events.start())) is not was_loaded


@pytest.mark.parametrize(
    ("error", "status", "header"),
    [
        (AuthenticationError("no"), 401, ("www-authenticate", "Bearer")),
        (RateLimitedError("slow down", retry_after=1.2), 429, ("retry-after", "2")),
    ],
)
def test_errors_say_what_to_do(error: InferFluxError, status: int, header: tuple[str, str]) -> None:
    response = respond_error(error)

    assert response.status_code == status
    assert response.headers[header[0]] == header[1]
    assert json.loads(response.content)["error"]["type"] == "invalid_request"


def test_the_sdks_know_missing_presets() -> None:
    assert sdk_error(PresetNotFoundError("x"))["displayData"]["code"] == "generic.presetNotFound"


# ------------------------------------------------------------------------------------ figures


@pytest.mark.parametrize(
    ("finish", "sequence", "completion_tokens", "reason"),
    [
        ("stop", None, 5, "eosFound"),
        ("stop", "\n", 5, "stopStringFound"),
        ("tool_calls", None, 5, "toolCalls"),
        ("content_filter", None, 5, "failed"),
        ("length", None, 5, "maxPredictedTokensReached"),
        ("length", None, 54, "contextLengthReached"),
    ],
)
def test_reasons_to_stop(
    finish: str, sequence: str | None, completion_tokens: int, reason: str
) -> None:
    done = generation()
    done.usage.completion_tokens = completion_tokens

    assert stop_reason(done, finish, sequence) == reason


def test_speed_counts_what_comes_after_the_first_token() -> None:
    assert tokens_per_second(generation()) == 2.0


# ------------------------------------------------------------------------------------ channels


class FakeServer:
    """Has one model, and one generation of it."""

    def __init__(self, prepared: Generation | None) -> None:
        self._prepared = prepared
        self.opened: list[GenerationRequest] = []
        self.engines, self.pipeline, self.authenticator = self, self, self
        self.body_limits = {"max_bytes": 10_000, "max_depth": 64}

    async def identify(self, credential: str) -> Principal:
        return Principal(credential, frozenset({"generate"}))

    def renew(self, principal: Principal) -> Principal:
        return principal

    def seen_by(self, principal: Principal) -> FakeServer:
        del principal
        return self

    def resolve(self, name: str) -> Target:
        engine = SimpleNamespace(loaded_info=None)
        model = SimpleNamespace(name="base", engine=engine, config=SimpleNamespace(path=None))
        return Target(name, cast(Any, model), [])

    async def open(self, principal: object, request: GenerationRequest) -> Generation:
        del principal
        self.opened.append(request)
        if self._prepared is None:
            await asyncio.Event().wait()
        assert self._prepared is not None
        return self._prepared


class FakeSocket:
    """Sends some frames, without any pause, and leaves when a channel is closed."""

    def __init__(self, server: FakeServer, *frames: dict[str, Any]) -> None:
        self.app = SimpleNamespace(state=SimpleNamespace(server=server))
        self.headers: dict[str, str] = {}
        self.received: list[dict[str, Any]] = []
        self._frames = [*frames]
        self._closed = asyncio.Event()

    async def receive_data(self, mode: str) -> str:
        assert mode == "text"
        if self._frames:
            return json.dumps(self._frames.pop(0))
        await self._closed.wait()
        raise WebSocketDisconnect(detail="gone")

    async def send_data(self, text: str) -> None:
        self.received.append(json.loads(text))
        if self.received[-1].get("type") == "channelClose":
            self._closed.set()


PARAMETER = {
    "modelSpecifier": {"type": "query", "query": {"identifier": "adapter"}},
    "history": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Go."}]}]},
}


def prediction(server: FakeServer, cancelled: asyncio.Event) -> AsyncIterator[dict[str, Any]]:
    _, predict = CHANNELS["llm"]["predict"]
    return predict(Caller(cast(Any, server), cast(Any, None), "llm"), PARAMETER, cancelled)


async def collect(server: FakeServer) -> list[dict[str, Any]]:
    return [message async for message in prediction(server, asyncio.Event())]


def test_a_prediction_is_of_the_adapter_that_was_asked_for() -> None:
    server = FakeServer(generation(Delta(0, "Hi.", "stop")))
    found = asyncio.run(collect(server))

    assert [request.model for request in server.opened] == ["adapter"]
    assert found[2]["fragment"] == {
        "content": "Hi.",
        "tokensCount": 5,
        "containsDrafted": False,
        "reasoningType": "none",
        "isStructural": False,
    }
    assert found[-1]["stats"]["stopReason"] == "eosFound"


@pytest.mark.parametrize(
    ("arguments", "ending"),
    [
        ('{"a": 1}', "toolCallGenerationEnd"),
        ('{"a"', "toolCallGenerationFailed"),
        ("[1]", "toolCallGenerationFailed"),
    ],
)
def test_calls_end_with_what_they_ask_for(arguments: str, ending: str) -> None:
    calls = [ToolCallDelta(0, "call_1", "f", ""), ToolCallDelta(0, None, None, arguments)]
    deltas = [Delta(0, "", tool_calls=[call]) for call in calls]
    found = asyncio.run(collect(FakeServer(generation(*deltas, Delta(0, "", "tool_calls")))))
    told = [m["type"] for m in found if m["type"].startswith("toolCall")]

    assert told == [
        "toolCallGenerationStart",
        "toolCallGenerationNameReceived",
        "toolCallGenerationArgumentFragmentGenerated",
        ending,
    ]


def test_a_prediction_that_is_cancelled_while_a_fragment_is_sent_ends_well() -> None:
    async def scenario() -> tuple[list[dict[str, Any]], FakeGeneration]:
        prepared = FakeGeneration(*[Delta(0, "a")] * 9, Delta(0, "", "stop"))
        cancelled, found = asyncio.Event(), []
        async for message in prediction(FakeServer(cast(Generation, prepared)), cancelled):
            found.append(message)
            if message["type"] == "fragment":
                cancelled.set()
        return found, prepared

    found, prepared = asyncio.run(scenario())

    assert [m["type"] for m in found].count("fragment") == 1
    assert found[-1]["stats"]["stopReason"] == "userStopped"
    assert prepared.closed


def test_a_prediction_that_is_cancelled_before_it_began_ends_well() -> None:
    async def scenario() -> list[dict[str, Any]]:
        cancelled, found, waiting = asyncio.Event(), [], asyncio.Event()

        async def read() -> None:
            async for message in prediction(FakeServer(None), cancelled):
                found.append(message)
                waiting.set()

        task = asyncio.create_task(read())
        await waiting.wait()
        await asyncio.sleep(0)
        cancelled.set()
        task.cancel()
        await task
        return found

    found = asyncio.run(scenario())

    assert found[-1]["stats"] == {"stopReason": "userStopped", "predictedTokensCount": 0}


def test_a_prediction_whose_client_has_left_just_ends() -> None:
    async def scenario() -> None:
        task = asyncio.create_task(collect(FakeServer(None)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_a_channel_that_is_cancelled_in_the_same_breath_ends_well() -> None:
    login = {"clientPasskey": "key"}
    create = {"type": "channelCreate", "endpoint": "predict", "channelId": 1}
    cancel = {"type": "channelSend", "channelId": 1, "message": {"type": "cancel"}}

    async def scenario() -> list[dict[str, Any]]:
        server = FakeServer(None)
        socket = FakeSocket(server, login, create | {"creationParameter": PARAMETER}, cancel)
        async with asyncio.timeout(5):
            await Session(cast(Any, socket), "llm").run()
        assert not server.opened
        return socket.received

    *_, success, closed = asyncio.run(scenario())

    assert closed == {"type": "channelClose", "channelId": 1}
    assert success["message"]["stats"]["stopReason"] == "userStopped"
