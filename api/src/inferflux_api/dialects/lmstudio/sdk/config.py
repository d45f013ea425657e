"""Settings as the SDKs send them: layers of keys and values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from inferflux_api.conversation import NO_TOOLS, ToolUse
from inferflux_api.dialects.openai.tools import tool_use
from inferflux_core.engine.sampling_params import Constraint, SamplingParams
from inferflux_core.errors import InvalidRequestError

__all__ = ["PredictionConfig", "load_context_length"]

_PREFIX: Final = "llm.prediction."
_CONTEXT_LENGTH: Final = ".load.contextLength"
_COMPLETION_LAYER: Final = "completeModeFormatting"
_PLAIN: Final = {"temperature": "temperature", "topKSampling": "top_k", "stopStrings": "stop"}
_CHECKED: Final = {
    "maxPredictedTokens": "max_tokens",
    "minPSampling": "min_p",
    "topPSampling": "top_p",
    "repeatPenalty": "repetition_penalty",
}


class PredictionConfig:
    """What a prediction asks for.

    Args:
        stack: `{"layers": [{"layerName", "config": {"fields": [{"key", "value"}]}}]}`.

    Attributes:
        completes: whether a text is to be continued rather than a conversation answered.

    Raises:
        InvalidRequestError: it is malformed.
    """

    def __init__(self, stack: object) -> None:
        self._fields: dict[str, Any] = {}
        self.completes = False
        for layer, key, value in _settings(stack):
            completes = layer == _COMPLETION_LAYER
            self.completes = self.completes or completes
            name = key.removeprefix(_PREFIX)
            if name == "promptTemplate" and not completes:
                raise InvalidRequestError(
                    "prompt templates of requests are not rendered here", param="promptTemplate"
                )
            self._fields[name] = value

    def params(self) -> SamplingParams:
        """For the sampler.

        Raises:
            InvalidRequestError: a value is of the wrong kind.
        """
        given: dict[str, Any] = {}
        for key, name in _PLAIN.items():
            if (value := self._fields.get(key)) is not None:
                given[name] = value
        for key, name in _CHECKED.items():
            value = self._fields.get(key)
            if isinstance(value, dict):
                value = value.get("value") if value.get("checked") else None
            if value is not None:
                given[name] = value
        for name in ("top_k", "max_tokens"):
            if name in given:
                given[name] = _whole(name, given[name])
        if given.get("max_tokens") == -1:
            del given["max_tokens"]
        _check(given)
        return SamplingParams(**given, constraint=self._constraint())

    def tools(self) -> ToolUse:
        """What may be called.

        Raises:
            InvalidRequestError: a tool is malformed.
        """
        setting = self._fields.get("tools")
        if not isinstance(setting, dict) or setting.get("type") != "toolArray":
            return NO_TOOLS
        tools = setting.get("tools")
        if not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
            raise InvalidRequestError("tools are a list of objects", param="tools")
        return tool_use(tools, "required" if setting.get("force") else None, None)

    def _constraint(self) -> Constraint | None:
        setting = self._fields.get("structured")
        if not isinstance(setting, dict) or setting.get("type") in (None, "none"):
            return None
        if setting["type"] == "json":
            schema = setting.get("jsonSchema") or {"type": "object"}
            return Constraint(kind="json_schema", value=json.dumps(schema), param="structured")
        grammar = setting.get("gbnfGrammar")
        if setting["type"] == "gbnf" and isinstance(grammar, str):
            return Constraint(kind="grammar", value=grammar, param="structured")
        raise InvalidRequestError(
            f"structured output of type {setting['type']!r} does not exist here", param="structured"
        )


def load_context_length(stack: object) -> int | None:
    """Tokens that a model which is to be loaded shall hold, if that was asked for.

    Raises:
        InvalidRequestError: the configuration is malformed.
    """
    wanted = None
    for _, key, value in _settings(stack):
        if key.endswith(_CONTEXT_LENGTH) and value is not None:
            wanted = _whole("contextLength", value)
    return wanted


def _settings(stack: object) -> Iterator[tuple[object, str, Any]]:
    """Name of the layer, key and value of every setting, the last of a key being the one that counts."""
    layers = stack.get("layers") if isinstance(stack, dict) else None
    for layer in layers if isinstance(layers, list) else []:
        if not isinstance(layer, dict):
            raise InvalidRequestError("a layer of the configuration is an object")
        config = layer.get("config")
        fields = config.get("fields") if isinstance(config, dict) else None
        for field in fields if isinstance(fields, list) else []:
            if not isinstance(field, dict) or not isinstance(field.get("key"), str):
                raise InvalidRequestError("a field of the configuration needs a key")
            yield layer.get("layerName"), field["key"], field.get("value")


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise InvalidRequestError(f"{name} must be a whole number", param=name)
    return int(value)


def _check(given: dict[str, Any]) -> None:
    for name, value in given.items():
        if name == "stop":
            if not (isinstance(value, list) and all(isinstance(text, str) for text in value)):
                raise InvalidRequestError("stopStrings are a list of texts", param="stopStrings")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidRequestError(f"{name} must be a number", param=name)
