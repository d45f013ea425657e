"""What nobody foresaw costs the request that brought it about, and not the thread that reads them all."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from inferflux_core.engine.calls import CallHandler
from inferflux_core.engine.child import EngineProcess
from inferflux_core.engine.failures import as_told
from inferflux_core.engine.framing import read_frame
from inferflux_core.engine.protocol import (
    CallFailed,
    Generate,
    Outputs,
    Render,
    TextPrompt,
    Tokenize,
    decode_event,
)
from inferflux_core.engine.sampling_params import SamplingParams
from inferflux_core.errors import InvalidRequestError
from inferflux_core.testing import DeterministicRunner

PROMPT = TextPrompt(text="secret")


class Broken:
    """A factory with an error of ours in it."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def build(self, command: Any) -> Any:
        raise self.error

    def token_ids(self, prompt: Any) -> Any:
        raise self.error

    rendered = token_ids


def handler(error: Exception) -> CallHandler:
    return CallHandler(DeterministicRunner(2, 64), Broken(error), None)  # type: ignore[arg-type]


def test_errors_for_callers_are_told_as_they_are() -> None:
    error = InvalidRequestError("no")
    assert as_told(error) is error


@pytest.mark.parametrize("error", [KeyError("secret"), RecursionError(), MemoryError()])
@pytest.mark.parametrize(
    "call", [Tokenize(call_id=7, prompt=PROMPT), Render(call_id=7, prompt=PROMPT)]
)
def test_a_call_that_fails_is_answered(
    error: Exception, call: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = handler(error).receive(call)
    assert isinstance(answer, CallFailed)
    assert (answer.call_id, answer.code) == (7, "engine_error")
    assert type(error).__name__ in answer.message
    written = capfd.readouterr().err
    assert "test_failures.py" in written
    assert "secret" not in written + answer.message


def test_a_generation_that_cannot_be_prepared_is_answered() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = EngineProcess(theirs)
        loaded: Any = SimpleNamespace(factory=Broken(KeyError("x")))
        command = Generate(request_id=3, prompt=PROMPT, params=SamplingParams())
        process._accept(command, loaded)
        event = decode_event(read_frame(ours))
    assert isinstance(event, Outputs)
    (output,) = event.outputs
    assert output.request_id == 3
    assert output.error == ("engine_error", "the engine failed on this request with KeyError")
