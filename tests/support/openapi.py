"""Our OpenAPI description, with what a generator of requests has to know besides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

__all__ = ["add_undescribed", "know", "only_good_values"]

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_SHORT: Schema = {"type": "string", "minLength": 1, "maxLength": 40}
_FEW: Schema = {"type": "integer", "minimum": 1, "maximum": 6}
_SHARE: Schema = {"enum": [None, 0, 0.5, 1]}
_QUERIES: dict[str, dict[str, Schema]] = {
    "/v1/files": {"order": _TEXT, "after": _TEXT, "limit": {"type": "integer"}, "purpose": _TEXT},
    "/v1/batches": {"order": _TEXT, "after": _TEXT, "limit": {"type": "integer"}},
    "/v1/responses/{response_id}": {
        "stream": {"type": "boolean"},
        "starting_after": {"type": "integer"},
    },
    "/v1/responses/{response_id}/input_items": {"after": _TEXT, "limit": {"type": "integer"}},
}
_UPLOAD: Schema = {
    "type": "object",
    "properties": {"file": {"type": "string", "format": "binary"}, "purpose": _TEXT},
    "required": ["file", "purpose"],
}
_GOOD_VALUES: dict[str, Schema] = {
    **dict.fromkeys(("max_tokens", "max_completion_tokens", "max_output_tokens"), _FEW),
    "num_predict": _FEW,
    **dict.fromkeys(("temperature", "top_p", "min_p", "typical_p"), _SHARE),
    **dict.fromkeys(("frequency_penalty", "presence_penalty"), _SHARE),
    "repetition_penalty": {"enum": [None, 0.5, 1]},
    "repeat_penalty": {"enum": [None, 0.5, 1]},
    "top_k": {"enum": [None, 0, 1, 40]},
    "seed": {"enum": [None, 0, 7]},
    "n": {"enum": [None, 1, 3]},
    "num_ctx": {"enum": [None, 64]},
    "context_length": {"enum": [None, 64]},
    "keep_alive": {"enum": [None, 60, -1, "5m"]},
    "think": {"enum": [None, False]},
    "raw": {"enum": [None, False]},
    "reasoning": {"enum": [None]},
    "response_format": {"enum": [None, {"type": "text"}, {"type": "json_object"}]},
    "tools": {"enum": [None, []]},
    "stop": {"enum": [None, "xyz", ["x", "y"]]},
    "role": {"const": "user"},
    **dict.fromkeys(("content", "prompt", "input", "query", "instructions", "system"), _SHORT),
    "documents": {"type": "array", "items": _SHORT, "minItems": 1, "maxItems": 3},
    "messages": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"role": {"const": "user"}, "content": _SHORT},
            "required": ["role", "content"],
        },
        "minItems": 1,
        "maxItems": 3,
    },
    "tokens": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}},
    "dimensions": {"enum": [None, 1, 8]},
    "endpoint": {"const": "/v1/completions"},
    "completion_window": {"const": "24h"},
    "background": {"enum": [None, False]},
    "stop_sequences": {"enum": [None, [], ["xyz"]]},
    "purpose": {"const": "batch"},
    "force": {"const": False},
    "is_3d_lora_weight": {"const": False},
}
_NEEDS_MORE = (
    *("structured_outputs", "guided_json", "guided_regex", "guided_choice"),
    *("guided_grammar", "json_schema", "grammar", "format", "output_config", "output_format"),
    *("tool_choice", "logprobs", "top_logprobs", "best_of", "echo", "suffix", "adapters"),
    *("logit_bias", "stop_token_ids", "chat_template_kwargs", "tool_calls", "function_call"),
    *("images", "context", "template", "conversation", "context_management", "moderation"),
    *("previous_response_id", "integrations", "truncation"),
)
"""What is refused unless something else goes with it; it is left out."""


def add_undescribed(document: Schema) -> None:
    """Add query parameters and forms, which handlers read without saying so."""
    for path, names in _QUERIES.items():
        parameters = document["paths"][path]["get"].setdefault("parameters", [])
        parameters += [{"name": n, "in": "query", "schema": s} for n, s in names.items()]
    document["components"]["schemas"]["Upload"] = deepcopy(_UPLOAD)
    form = {"schema": {"$ref": "#/components/schemas/Upload"}}
    document["paths"]["/v1/files"]["post"]["requestBody"] = {
        "required": True,
        "content": {"multipart/form-data": form},
    }


def know(document: Schema, known: Mapping[str, Sequence[Any]]) -> None:
    """Say what names exist, of models and other things; requests with random ones get nowhere."""
    for schema in document["components"]["schemas"].values():
        for name, values in known.items():
            if name in schema.get("properties", {}):
                schema["properties"][name] = {"enum": list(values)}
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] in known:
                    parameter["schema"] = {"enum": list(known[parameter["name"]])}


def only_good_values(document: Schema) -> None:
    """Leave only what goes together, so that most requests are answered."""
    for schema in document["components"]["schemas"].values():
        properties = schema.get("properties", {})
        for name in properties.keys() & set(_NEEDS_MORE):
            properties[name] = {"enum": [None]}
        for name in properties.keys() & _GOOD_VALUES.keys():
            properties[name] = _GOOD_VALUES[name]
    for name, alone in (("TokenizeRequest", "prompt"), ("ResponsesRequest", "input")):
        schema = document["components"]["schemas"][name]
        schema["required"] = [alone]
        for other in {"prompt", "messages", "content", "input"} & schema["properties"].keys():
            if other != alone:
                del schema["properties"][other]
