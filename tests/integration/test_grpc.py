"""gRPC beside HTTP, through plain stubs, with answers that the prompt dictates."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import Default
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from support.rpc import Client, channel
from support.servers import RunningServer, free_port, running_server

from inferflux_api.governance.authentication import PUBLIC
from inferflux_api.grpc.protos import vllm_pb2 as vllm
from inferflux_api.grpc.protos import xai_pb2 as xai
from inferflux_api.grpc.scopes import SCOPES

RUNTIME = {"backend": "scripted", "max_model_len": 4096}
EOS = 257
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = xai.Tool(function=xai.Function(name="get_weather", parameters=json.dumps(SCHEMA)))
ENUMS = xai.DESCRIPTOR.enum_types_by_name


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[RunningServer]:
    config = {
        "server": {"grpc": {"port": port}, "max_body_bytes": 100_000},
        "models": [{"name": "scripted"}, {"name": "thinks"}],
        "runtime": RUNTIME,
    }
    for model in config["models"]:
        model["path"] = __file__
    with running_server(tmp_path_factory.mktemp("grpc"), config) as running:
        yield running
        assert running.stop() == 0, running.log.read_text()
        assert "Traceback" not in running.log.read_text()


@pytest.fixture(scope="module")
def dial(server: RunningServer, port: int) -> Iterator[Callable[..., Client]]:
    """Clients of a service by its full name."""
    with channel(port) as made:

        def client(service: str, key: str | None = "all-key", **metadata: str) -> Client:
            given = {"authorization": f"Bearer {key}"} if key else {}
            found = Default().FindServiceByName(service)
            return Client(made, found, {**given, **metadata})

        yield client


@pytest.fixture(scope="module")
def chat(dial: Callable[..., Client]) -> Client:
    return dial("xai_api.Chat")


@pytest.fixture(scope="module")
def engine(dial: Callable[..., Client]) -> Client:
    return dial("vllm.grpc.engine.VllmEngine", model="scripted")


def said(text: str, **fields: Any) -> xai.GetCompletionsRequest:
    message = xai.Message(role=xai.ROLE_USER, content=[xai.Content(text=f"[say]{text}[/say]")])
    given = {"model": "scripted", "max_tokens": 200, "temperature": 0, "messages": [message]}
    return xai.GetCompletionsRequest(**given | fields)


def tokens(text: str, stream: bool = True, request_id: str = "", **params: Any) -> Any:
    return vllm.GenerateRequest(
        request_id=request_id,
        tokenized=vllm.TokenizedInput(input_ids=list(f"{text}assistant: ".encode())),
        sampling_params=vllm.SamplingParams(**{"temperature": 0, "max_tokens": 40, **params}),
        stream=stream,
    )


def failure(call: Callable[[], Any]) -> grpc.RpcError:
    def read() -> None:
        # Streams fail when they are read.
        if hasattr(answer := call(), "__next__"):
            list(answer)

    with pytest.raises(grpc.RpcError) as caught:
        read()
    return caught.value


def refused(call: Callable[[], Any]) -> str:
    error = failure(call)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
    details: str = error.details()
    return details


def test_a_chat_is_answered_whole(chat: Client) -> None:
    answer = chat.GetCompletion(said("hello you"))

    (output,) = answer.outputs
    assert output.message.content == "hello you"
    assert output.message.role == xai.ROLE_ASSISTANT
    assert output.finish_reason == xai.REASON_STOP
    assert answer.model == "scripted"
    assert answer.usage.completion_tokens == len("hello you") + 1
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 10


def test_a_chat_streams(chat: Client) -> None:
    chunks = list(chat.GetCompletionChunk(said("hello [slow] you")))

    outputs = [output for chunk in chunks for output in chunk.outputs]
    assert "".join(output.delta.content for output in outputs) == "hello [slow] you"
    assert len(chunks) > 2
    assert {output.delta.role for output in outputs} == {xai.ROLE_ASSISTANT}
    assert [output.finish_reason for output in outputs if output.finish_reason] == [xai.REASON_STOP]
    assert chunks[-1].usage.completion_tokens == len("hello [slow] you") + 1
    assert len({chunk.id for chunk in chunks}) == 1


def test_choices_and_their_ends(chat: Client) -> None:
    answer = chat.GetCompletion(said("hello you", n=3, max_tokens=5))

    assert [output.index for output in answer.outputs] == [0, 1, 2]
    assert {output.message.content for output in answer.outputs} == {"hello"}
    assert {output.finish_reason for output in answer.outputs} == {xai.REASON_MAX_LEN}
    assert {o.index for c in chat.GetCompletionChunk(said("a", n=3)) for o in c.outputs} == {
        0,
        1,
        2,
    }


def test_stop_sequences_end_an_answer(chat: Client) -> None:
    (output,) = chat.GetCompletion(said("hello you", stop=["lo"])).outputs
    assert (output.message.content, output.finish_reason) == ("hel", xai.REASON_STOP)


def test_log_probabilities(chat: Client) -> None:
    (output,) = chat.GetCompletion(said("hi", logprobs=True, top_logprobs=2)).outputs

    first = output.logprobs.content[0]
    assert (first.token, first.bytes) == ("h", b"h")
    assert first.logprob == pytest.approx(0, abs=1e-3)
    assert first.top_logprobs[0].token == "h"
    assert len(first.top_logprobs) == 2


def test_reasoning_is_told_apart(chat: Client) -> None:
    request = said("hm</think>\nyes", model="thinks")
    (output,) = chat.GetCompletion(request).outputs
    chunks = [o.delta for c in chat.GetCompletionChunk(request) for o in c.outputs]

    assert (output.message.reasoning_content, output.message.content) == ("hm", "yes")
    assert "".join(delta.reasoning_content for delta in chunks) == "hm"
    assert "".join(delta.content for delta in chunks) == "yes"


def test_no_effort_is_no_reasoning(chat: Client) -> None:
    request = said("yes", model="thinks", reasoning_effort=xai.EFFORT_NONE)
    (output,) = chat.GetCompletion(request).outputs
    assert (output.message.reasoning_content, output.message.content) == ("", "yes")


def test_a_call_comes_whole_in_answers_and_streams(chat: Client) -> None:
    request = said(CALL, tools=[WEATHER])
    (output,) = chat.GetCompletion(request).outputs
    chunks = [o for c in chat.GetCompletionChunk(request) for o in c.outputs]
    calls = [call for chunk in chunks for call in chunk.delta.tool_calls]

    assert output.finish_reason == chunks[-1].finish_reason == xai.REASON_TOOL_CALLS
    for (call,) in (output.message.tool_calls, calls):
        assert call.id.startswith("call_")
        assert call.type == xai.TOOL_CALL_TYPE_CLIENT_SIDE_TOOL
        assert call.function.name == "get_weather"
        assert json.loads(call.function.arguments) == {"city": "Paris"}


@pytest.mark.parametrize(
    "choice",
    [xai.ToolChoice(mode=xai.TOOL_MODE_REQUIRED), xai.ToolChoice(function_name="get_weather")],
)
def test_a_demanded_call_is_made(chat: Client, choice: xai.ToolChoice) -> None:
    (output,) = chat.GetCompletion(said("no", tools=[WEATHER], tool_choice=choice)).outputs
    (call,) = output.message.tool_calls
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")


def test_calls_that_are_not_wanted_are_text(chat: Client) -> None:
    choice = xai.ToolChoice(mode=xai.TOOL_MODE_NONE)
    (output,) = chat.GetCompletion(said(CALL, tools=[WEATHER], tool_choice=choice)).outputs
    assert (output.message.content, len(output.message.tool_calls)) == (CALL, 0)


def test_the_conversation_goes_on_after_a_call(chat: Client) -> None:
    request = said("go", tools=[WEATHER])
    call = xai.ToolCall(id="c1", function=xai.FunctionCall(name="get_weather", arguments="{}"))
    request.messages.add(role=xai.ROLE_ASSISTANT, tool_calls=[call])
    request.messages.add(
        role=xai.ROLE_TOOL, tool_call_id="c1", content=[xai.Content(text="[say]rain[/say]")]
    )
    assert chat.GetCompletion(request).outputs[0].message.content == "rain"


def test_json_is_forced(chat: Client) -> None:
    wanted = xai.ResponseFormat(format_type=xai.FORMAT_TYPE_JSON_SCHEMA, schema=json.dumps(SCHEMA))
    (output,) = chat.GetCompletion(said("no", response_format=wanted)).outputs
    assert json.loads(output.message.content)["city"] in ("Paris", "Rome")


DEEP = "[" * 100_0 + "]" * 100_0


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"messages": []}, "messages must be 1 to 4096, not 0"),
        ({"messages": [xai.Message()]}, "messages[0] has no role"),
        ({"messages": [xai.Message(role=77)]}, "messages[0] has no role"),
        (
            {
                "messages": [
                    xai.Message(role=1, content=[xai.Content(image_url=xai.ImageUrlContent())])
                ]
            },
            "content of kind 'image_url' is not supported",
        ),
        ({"messages": [xai.Message(role=1, encrypted_content="x")]}, "encrypted content"),
        ({"messages": [xai.Message(role=2, tool_calls=[xai.ToolCall()])]}, "function with a name"),
        ({"n": 0}, "n must be between 1 and 16, not 0"),
        ({"n": 17}, "n must be between 1 and 16, not 17"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"max_tokens": -1}, "max_tokens must be at least 1"),
        ({"temperature": float("nan")}, "temperature must be between"),
        ({"temperature": -1}, "temperature must be between"),
        ({"top_p": float("inf")}, "top_p must be between"),
        ({"top_logprobs": 3}, "top_logprobs needs logprobs"),
        ({"logprobs": True, "top_logprobs": -1}, "logprobs must be between"),
        ({"stop": [""]}, "stop strings must have"),
        ({"reasoning_effort": 0}, "reasoning_effort has no value"),
        ({"response_format": xai.ResponseFormat()}, "response_format has no type"),
        (
            {"response_format": xai.ResponseFormat(format_type=3, schema="{")},
            "response_format.schema must be the text of a JSON Schema",
        ),
        (
            {"response_format": xai.ResponseFormat(format_type=3, schema=DEEP)},
            "nested deeper than 64",
        ),
        ({"tools": [xai.Tool()]}, "tools of kind None"),
        ({"tools": [xai.Tool(web_search=xai.WebSearch())]}, "tools of kind 'web_search'"),
        (
            {"tools": [xai.Tool(function=xai.Function(name="f", parameters="[]"))]},
            "tools[0].function.parameters must be the text of a JSON Schema",
        ),
        (
            {"tools": [xai.Tool(function=xai.Function(name="f", parameters=DEEP))]},
            "nested deeper than 64",
        ),
        ({"tools": [xai.Tool(function=xai.Function())]}, "cannot be the name of a tool"),
        ({"tool_choice": xai.ToolChoice(mode=0)}, "tool_choice has no mode"),
        ({"tool_choice": xai.ToolChoice(mode=3)}, "there are no tools"),
        ({"tool_choice": xai.ToolChoice(function_name="f")}, "there is no tool 'f'"),
        ({"previous_response_id": "x"}, "this server stores no chats"),
        ({"store_messages": True}, "this server stores no chats"),
        ({"search_parameters": xai.SearchParameters(mode=3)}, "does not search"),
        ({"agent_count": 1}, "has no agents"),
        ({"guidelines": [xai.Guideline()]}, "guidelines are not followed"),
    ],
)
def test_what_cannot_be_done_is_refused(chat: Client, fields: dict[str, Any], problem: str) -> None:
    request = said("hello", **fields)
    assert problem in refused(lambda: chat.GetCompletion(request))
    assert problem in refused(lambda: chat.GetCompletionChunk(request))


def test_what_is_meaningless_here_is_ignored(chat: Client) -> None:
    request = said(
        "hi", seed=-5, user="me", max_turns=3, use_encrypted_content=True, service_tier=2
    )
    assert chat.GetCompletion(request).outputs[0].message.content == "hi"


def test_garbage_and_giants_are_refused(chat: Client) -> None:
    assert "not a message of type" in refused(lambda: chat.GetCompletion(b"\xff" * 50))
    assert "not a message of type" in refused(lambda: chat.GetCompletionChunk(b"\x0a\xff"))
    giant = failure(lambda: chat.GetCompletion(said("x" * 200_000)))
    assert giant.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    unknown = failure(lambda: chat.GetCompletion(said("x", model="é" * 20_000)))
    assert unknown.code() is grpc.StatusCode.NOT_FOUND
    assert unknown.details().startswith("model 'éééé")


def test_errors_tell_their_code(chat: Client) -> None:
    error = failure(lambda: chat.GetCompletion(said("x", model="other")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert error.details() == "model 'other' is not served here; there is: scripted, thinks"
    assert ("error-code", "model_not_found") in [tuple(m) for m in error.trailing_metadata()]


def test_a_prompt_that_is_too_long_is_refused_in_a_stream_too(chat: Client) -> None:
    assert "the prompt has" in refused(lambda: chat.GetCompletionChunk(said("long " * 1000)))


# ------------------------------------------------------------------------------------ engine


def test_tokens_stream(engine: Client) -> None:
    messages = list(engine.Generate(tokens("[slow][say]hello[/say]")))

    chunks = [message.chunk for message in messages if message.HasField("chunk")]
    assert bytes(t for c in chunks for t in c.token_ids if t != EOS) == b"hello"
    assert not chunks[0].HasField("output_logprobs")
    complete = messages[-1].complete
    assert list(complete.output_ids) == [*b"hello", EOS]
    assert complete.finish_reason == "stop"
    assert (complete.prompt_tokens, complete.completion_tokens) == (33, 6)
    assert chunks[-1].completion_tokens == 6


def test_tokens_come_at_once_if_they_are_not_streamed(engine: Client) -> None:
    request = tokens("[say]hello[/say]", stream=False, n=2, max_tokens=3)
    messages = list(engine.Generate(request))

    assert sorted(message.complete.index for message in messages) == [0, 1]
    assert {bytes(message.complete.output_ids) for message in messages} == {b"hel"}
    assert {message.complete.finish_reason for message in messages} == {"length"}


def test_texts_are_prompts_too(engine: Client) -> None:
    request = tokens("")
    request.text = "[say]hey[/say]assistant: "
    assert bytes(list(engine.Generate(request))[-1].complete.output_ids[:-1]) == b"hey"


def test_token_probabilities(engine: Client) -> None:
    request = tokens("[say]hi[/say]", logprobs=2, prompt_logprobs=1)
    messages = list(engine.Generate(request))
    output, prompt = messages[-1].complete.output_logprobs, messages[0].chunk.input_logprobs

    assert list(output.token_ids) == [*b"hi", EOS]
    assert output.token_logprobs[0] == pytest.approx(0, abs=1e-3)
    assert [len(top.token_ids) for top in output.top_logprobs] == [2, 2, 2]
    assert output.top_logprobs[0].token_ids[0] == ord("h")
    assert bytes(prompt.token_ids) == b"[say]hi[/say]assistant: "
    assert not prompt.token_logprobs[0].HasField("value")
    assert prompt.token_logprobs[1].value < 0


@pytest.mark.parametrize(
    ("params", "matched"),
    [
        ({"stop": ["lo"]}, "matched_stop_str"),
        ({"stop_token_ids": [ord("l")]}, "matched_token_id"),
        ({}, None),
    ],
)
def test_what_ended_it_is_told(engine: Client, params: dict[str, Any], matched: str | None) -> None:
    complete = list(engine.Generate(tokens("[say]hello[/say]", **params)))[-1].complete
    assert complete.finish_reason == "stop"
    assert complete.WhichOneof("matched_stop") == matched


@pytest.mark.parametrize(
    ("constraint", "answers"),
    [
        ({"regex": "[xy]{3}"}, {"xxx", "yyy", "xyx", "xxy", "yxx", "yyx", "yxy", "xyy"}),
        ({"choice": vllm.ChoiceConstraint(choices=["ja", "nein"])}, {"ja", "nein"}),
        ({"json_schema": '{"const": 7}'}, {"7"}),
        ({"grammar": 'start: "so"'}, {"so"}),
        ({"json_object": False}, {"hm"}),
    ],
)
def test_constraints(engine: Client, constraint: dict[str, Any], answers: set[str]) -> None:
    complete = list(engine.Generate(tokens("[say]hm[/say]", **constraint)))[-1].complete
    assert bytes(t for t in complete.output_ids if t != EOS).decode().strip() in answers


@pytest.mark.parametrize(
    ("fields", "params", "problem"),
    [
        ({"tokenized": None}, {}, "neither tokenized nor text"),
        ({"tokenized": vllm.TokenizedInput()}, {}, "the prompt is empty"),
        ({"tokenized": vllm.TokenizedInput(input_ids=[2**32 - 1])}, {}, "not in the vocabulary"),
        ({"mm_inputs": vllm.MultimodalInputs()}, {}, "text only"),
        ({"kv_transfer_params_json": "{}"}, {}, "not transferred"),
        ({"data_parallel_rank": 1}, {}, "one rank"),
        ({}, {"min_tokens": 1}, "min_tokens does not exist here"),
        ({}, {"truncate_prompt_tokens": 5}, "prompts are not truncated"),
        ({}, {"n": 17}, "n must be at most 16"),
        ({}, {"top_k": 2**32 - 1, "temperature": float("nan")}, "temperature must be between"),
        ({}, {"logprobs": -1}, "logprobs must be between"),
        ({}, {"logit_bias": {-3: 1.0}}, "not in the vocabulary"),
        ({}, {"structural_tag": "x"}, "structural_tag does not exist here"),
        ({}, {"json_schema": "{"}, "JSON"),
        ({}, {"regex": "("}, "regex"),
    ],
)
def test_what_engines_cannot_do_is_refused(
    engine: Client, fields: dict[str, Any], params: dict[str, Any], problem: str
) -> None:
    request = tokens("hm", **params)
    for name, value in fields.items():
        request.ClearField("tokenized") if name == "tokenized" else None
        request.MergeFrom(vllm.GenerateRequest(**{name: value}))
    assert problem in refused(lambda: engine.Generate(request))


def test_an_abort_ends_what_runs(engine: Client, dial: Callable[..., Client]) -> None:
    stream = engine.Generate(tokens("[slow]", request_id="r1", max_tokens=3000))
    first = next(stream)
    assert first.chunk.token_ids
    again = engine.Generate(tokens("x", request_id="r1"))
    assert "runs already" in refused(lambda: again)

    other = dial("vllm.grpc.engine.VllmEngine", "generate-key")
    other.Abort(vllm.AbortRequest(request_ids=["r1"]))
    assert next(stream).chunk.token_ids, "another's request was aborted"
    engine.Abort(vllm.AbortRequest(request_ids=["r1", "nothing"]))

    complete = list(stream)[-1].complete
    assert complete.finish_reason == "abort"
    assert list(complete.output_ids)[: len(first.chunk.token_ids)] == list(first.chunk.token_ids)
    assert list(engine.Generate(tokens("[say]x[/say]", request_id="r1"))), "the id is free again"


def test_embeddings(engine: Client, dial: Callable[..., Client]) -> None:
    tokenized = vllm.TokenizedInput(input_ids=list(b"aab"))
    answer = engine.Embed(vllm.EmbedRequest(tokenized=tokenized))
    embedder = dial("xai_api.Embedder")
    inputs = [xai.EmbedInput(string="aab"), xai.EmbedInput(string="b")]
    request = xai.EmbedRequest(model="scripted", input=inputs)
    floats = embedder.Embed(request)
    request.encoding_format = xai.FORMAT_BASE64
    coded = embedder.Embed(request)

    assert answer.embedding_dim == len(answer.embedding) == 256
    assert answer.embedding[ord("a")] == pytest.approx(2 / 5**0.5)
    assert answer.prompt_tokens == 3
    first, second = (each.embeddings[0].float_array for each in floats.embeddings)
    assert first[ord("a")] == pytest.approx(2 / 5**0.5)
    assert second[ord("b")] == pytest.approx(1)
    assert len(coded.embeddings[1].embeddings[0].base64_array) == 4 * -(-256 * 4 // 3)
    assert "1 to 2048 texts" in refused(lambda: embedder.Embed(xai.EmbedRequest(model="scripted")))
    assert "kind None" in refused(
        lambda: embedder.Embed(xai.EmbedRequest(input=[xai.EmbedInput()]))
    )


def test_what_the_engine_is(engine: Client) -> None:
    info = engine.GetModelInfo(vllm.GetModelInfoRequest())
    running = engine.GetServerInfo(vllm.GetServerInfoRequest())
    (load,) = engine.GetLoads(vllm.GetLoadsRequest()).loads

    assert (info.served_model_name, info.max_context_length) == ("scripted", 4096)
    assert info.is_generation
    assert info.vocab_size > 256
    assert (running.max_num_seqs, running.data_parallel_size) == (4, 1)
    assert running.uptime_seconds > 0
    assert (load.num_running_reqs, load.max_running_requests) == (0, 4)
    assert engine.HealthCheck(vllm.HealthCheckRequest()).healthy


def test_one_of_several_models_has_to_be_named(dial: Callable[..., Client]) -> None:
    unnamed = dial("vllm.grpc.engine.VllmEngine")
    error = failure(lambda: unnamed.Generate(tokens("x")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert "the request names no model; there is: scripted, thinks" in error.details()


# ------------------------------------------------------------------------- models and tokens


def test_models(dial: Callable[..., Client]) -> None:
    models = dial("xai_api.Models", "read-key")
    nothing = Default().FindMessageTypeByName("google.protobuf.Empty")._concrete_class()

    listed = models.ListLanguageModels(nothing).models
    assert [model.name for model in listed] == ["scripted", "thinks"]
    assert models.GetLanguageModel(xai.GetModelRequest(name="thinks")) == listed[1]
    assert listed[0].max_prompt_length == 4096
    embedding = models.ListEmbeddingModels(nothing).models
    assert models.GetEmbeddingModel(xai.GetModelRequest(name="scripted")) == embedding[0]
    error = failure(lambda: models.GetLanguageModel(xai.GetModelRequest(name="../etc")))
    assert error.code() is grpc.StatusCode.NOT_FOUND


def test_texts_are_cut_into_tokens(dial: Callable[..., Client]) -> None:
    request = xai.TokenizeTextRequest(model="scripted", text="hé")
    found = dial("xai_api.Tokenize").TokenizeText(request).tokens
    assert [token.token_id for token in found] == list("hé".encode())
    assert b"".join(token.token_bytes for token in found) == "hé".encode()


# ------------------------------------------------------------- health, reflection, governance


def test_health_and_reflection(dial: Callable[..., Client]) -> None:
    health = dial("grpc.health.v1.Health", None)
    for service in ("", "xai_api.Chat", "vllm.grpc.engine.VllmEngine"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    unknown = failure(lambda: health.Check(health_pb2.HealthCheckRequest(service="nope")))
    assert unknown.code() is grpc.StatusCode.NOT_FOUND
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    reflection = dial("grpc.reflection.v1alpha.ServerReflection", "read-key")
    (listed,) = reflection.ServerReflectionInfo(iter([ask]))
    names = {service.name for service in listed.list_services_response.service}
    assert names == {path.split("/")[1] for path in SCOPES}


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (path, key)
        for path, scope in SCOPES.items()
        for key in (None, "wrong", "generate-key", "read-key")
        if scope != PUBLIC and key != f"{scope}-key"
    ],
)
def test_every_method_wants_its_scope(
    dial: Callable[..., Client], path: str, key: str | None
) -> None:
    service, method = path.strip("/").split("/")
    call = getattr(dial(service, key), method)
    known = key is not None and key.endswith("-key")
    expected = grpc.StatusCode.PERMISSION_DENIED if known else grpc.StatusCode.UNAUTHENTICATED

    error = failure(lambda: call(iter([b""]) if "Reflection" in path else b""))

    assert error.code() is expected


@pytest.mark.parametrize(
    "metadata",
    [
        {"x-api-key": "generate-key"},
        {"authorization": "bearer   generate-key "},
        {"authorization": "Bearer generate-key", "x-api-key": "wrong"},
    ],
)
def test_ways_to_show_a_key(dial: Callable[..., Client], metadata: dict[str, str]) -> None:
    assert dial("xai_api.Chat", None, **metadata).GetCompletion(said("hi"))


@pytest.mark.parametrize(
    "metadata",
    [
        (("authorization", "Basic x"),),
        (("authorization", ""),),
        (("authorization", "Bearer all-key"), ("authorization", "Bearer all-key")),
        (("authorization-bin", b"Bearer all-key"),),
    ],
)
def test_ways_that_do_not_count(chat: Client, metadata: tuple[tuple[str, Any], ...]) -> None:
    error = failure(lambda: chat.GetCompletion(said("hi"), metadata=metadata))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED


def test_what_is_not_served_is_unimplemented(dial: Callable[..., Client], port: int) -> None:
    with channel(port) as made:
        call = made.unary_unary("/xai_api.Chat/StartDeferredCompletion")
        assert failure(lambda: call(b"")).code() is grpc.StatusCode.UNIMPLEMENTED


def running(server: RunningServer) -> float:
    """Requests that are being computed."""
    with server.client() as client:
        lines = client.get("/metrics").text.splitlines()
    counts = [line for line in lines if line.startswith("inferflux_requests_running{")]
    assert counts
    return sum(float(line.rsplit(" ", 1)[1]) for line in counts)


def wait_until(condition: Callable[[], bool], problem: str) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, problem
        time.sleep(0.02)


@pytest.mark.parametrize("ending", ["cancel", "deadline"])
def test_who_leaves_ends_the_generation(server: RunningServer, chat: Client, ending: str) -> None:
    request = said("", max_tokens=3000)
    request.messages[0].content[0].text = "[slow]"
    stream = chat.GetCompletionChunk(request, timeout=None if ending == "cancel" else 1)
    assert next(stream).outputs
    wait_until(lambda: running(server) == 1, "it does not run")
    if ending == "cancel":
        stream.cancel()
    error = failure(lambda: stream)
    assert error.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
    wait_until(lambda: running(server) == 0, "it goes on although nobody reads it")
