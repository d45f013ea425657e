"""Answering what is not a generation."""

from __future__ import annotations

from typing import Final

from inferflux_core.engine.detokenizer import Detokenizer
from inferflux_core.engine.preparation import RequestFactory
from inferflux_core.engine.protocol import (
    Answer,
    Call,
    CallFailed,
    Detokenize,
    Text,
    Tokenize,
    Tokens,
)
from inferflux_core.engine.runner import ModelRunner
from inferflux_core.errors import InferFluxError, InvalidRequestError

__all__ = ["CallHandler"]

_QUICK: Final = (Tokenize, Detokenize)


class CallHandler:
    """Answers calls to one model.

    Args:
        runner: executes the model.
        factory: tokenizes.
    """

    def __init__(self, runner: ModelRunner, factory: RequestFactory) -> None:
        self._runner = runner
        self._factory = factory

    def is_quick(self, call: Call) -> bool:
        """Whether any thread may answer it; other calls need the thread that executes the model."""
        return isinstance(call, _QUICK)

    def answer(self, call: Call) -> Answer:
        """Do what is asked; errors of the caller are answers too."""
        try:
            return self._answer(call)
        except InferFluxError as error:
            return CallFailed(
                call_id=call.call_id, code=error.code, message=error.message, param=error.param
            )

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
        raise InvalidRequestError(f"this model does not answer {type(call).__name__}")
