"""The dialects that are served. A new one is a folder and a line here."""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from inferflux_api.dialects.anthropic.dialect import ANTHROPIC
from inferflux_api.dialects.dialect import Dialect
from inferflux_api.dialects.lmstudio.dialect import LMSTUDIO
from inferflux_api.dialects.ollama.dialect import OLLAMA
from inferflux_api.dialects.openai.dialect import OPENAI

__all__ = ["DIALECTS", "dialect_of"]

DIALECTS: Final = (OPENAI, ANTHROPIC, OLLAMA, LMSTUDIO)
_BY_PREFIX: Final = sorted(
    ((prefix, dialect) for dialect in DIALECTS for prefix in dialect.prefixes),
    key=lambda pair: len(pair[0]),
    reverse=True,
)


def dialect_of(path: str, headers: Container[str]) -> Dialect:
    """The dialect in whose shape a request's errors are told."""
    for dialect in DIALECTS:
        if dialect.header is not None and dialect.header in headers:
            return dialect
    # The path of `OPTIONS *` begins with nothing that anybody could claim.
    return next((d for prefix, d in _BY_PREFIX if path.startswith(prefix)), OPENAI)
