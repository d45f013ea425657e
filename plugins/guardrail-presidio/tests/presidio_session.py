"""What the real Presidio finds and refuses, as one JSON document; it may not touch the network."""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

from inferflux_core.errors import ConfigError
from inferflux_guardrail_presidio.analyzer import make_analyzer
from inferflux_guardrail_presidio.config import PresidioConfig


def _no_network(*_: Any, **__: Any) -> Any:
    print("the network was asked for", file=sys.stderr)
    sys.exit(3)


def _refused(**options: Any) -> str:
    try:
        make_analyzer(PresidioConfig(**options))
    except ConfigError as error:
        return str(error)
    return "accepted"


socket.getaddrinfo = socket.socket.connect = _no_network  # type: ignore[method-assign,assignment]

texts, wanted = json.loads(sys.argv[1])
analyze = make_analyzer(PresidioConfig())
cards = make_analyzer(PresidioConfig(entities=["CREDIT_CARD"]))
sure = make_analyzer(PresidioConfig(threshold=0.9))
print(
    json.dumps(
        {
            "found": [analyze(text) for text in texts],
            "cards": [cards(text) for text in texts],
            "sure": [sure(text) for text in texts],
            "refused": [_refused(**options) for options in wanted],
        }
    )
)
