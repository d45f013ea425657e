"""Answering what is not a generation."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Final

from inferflux_core.engine.adapters import AdapterRegistry
from inferflux_core.engine.detokenizer import Detokenizer
from inferflux_core.engine.embedding import EmbeddingDesk, call_failed
from inferflux_core.engine.failures import as_told
from inferflux_core.engine.preparation import RequestFactory
from inferflux_core.engine.protocol import (
    Answer,
    Call,
    Detokenize,
    Done,
    Embed,
    LoadAdapter,
    Rank,
    Render,
    Text,
    Tokenize,
    Tokens,
    UnloadAdapter,
)
from inferflux_core.engine.runner import ModelRunner
from inferflux_core.errors import InferFluxError, InvalidRequestError

__all__ = ["CallHandler"]

_QUICK: Final = (Tokenize, Detokenize, Render)


class CallHandler:
    """Answers calls to one model.

    Args:
        runner: executes the model.
        factory: tokenizes.
        adapters: of the model.
    """

    def __init__(
        self, runner: ModelRunner, factory: RequestFactory, adapters: AdapterRegistry
    ) -> None:
        self._runner = runner
        self._factory = factory
        self._adapters = adapters
        self._desk = EmbeddingDesk(runner, factory)
        self._slow: deque[Call] = deque()

    @property
    def busy(self) -> bool:
        """Whether calls wait for `advance`."""
        return bool(self._slow) or self._desk.busy

    def receive(self, call: Call) -> Answer | None:
        """Answer a call that any thread may answer; others wait for `advance`. Any thread."""
        try:
            if isinstance(call, _QUICK):
                return self._answer(call)
            if isinstance(call, Embed | Rank):
                self._desk.add(call)
            else:
                self._slow.append(call)
        except Exception as error:
            return call_failed(call.call_id, as_told(error))
        return None

    def advance(self) -> Answer | None:
        """Do a bounded part of what waits, in the thread that executes the model.

        Raises:
            RunnerError: the runner cannot go on.
        """
        if self._slow:
            return self.answer(self._slow.popleft())
        return self._desk.advance() if self._desk.busy else None

    def abort(self, call_id: int) -> None:
        """Nobody waits for the answer any more; in the thread that executes the model."""
        self._desk.abort(call_id)

    def answer(self, call: Call) -> Answer:
        """Do what is asked; errors of the caller are answers too."""
        try:
            return self._answer(call)
        except InferFluxError as error:
            return call_failed(call.call_id, error)

    def _answer(self, call: Call) -> Answer:
        if isinstance(call, Tokenize):
            token_ids = self._factory.token_ids(call.prompt)
            pieces = [self._runner.tokenizer.piece(token_id) for token_id in token_ids]
            return Tokens(call_id=call.call_id, token_ids=token_ids, pieces=pieces)
        if isinstance(call, Detokenize):
            self._factory.check_token_ids(call.token_ids)
            detokenizer = Detokenizer(self._runner.tokenizer.piece)
            text = "".join(map(detokenizer.feed, call.token_ids)) + detokenizer.finish()
            return Text(call_id=call.call_id, text=text)
        if isinstance(call, Render):
            return Text(call_id=call.call_id, text=self._factory.rendered(call.prompt))
        if isinstance(call, LoadAdapter):
            key_file = Path(call.key_file) if call.key_file else None
            self._adapters.load(call.name, Path(call.path), key_file)
            return Done(call_id=call.call_id)
        if isinstance(call, UnloadAdapter):
            self._adapters.unload(call.name)
            return Done(call_id=call.call_id)
        raise InvalidRequestError(f"this model does not answer {type(call).__name__}")
