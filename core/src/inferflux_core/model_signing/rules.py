"""What is decided about signatures in the server, and told to engine processes and to people."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["SignatureReport", "SigningRules"]


class SigningRules(msgspec.Struct, frozen=True):
    """Whether files must be signed, and by whom.

    Attributes:
        mode: `warn` loads what is not signed all the same, `enforce` does not.
        public_keys: in PEM form; read once by the server, so that all processes know the same ones.
    """

    mode: Literal["off", "warn", "enforce"] = "off"
    public_keys: tuple[str, ...] = ()


class SignatureReport(msgspec.Struct, frozen=True):
    """What became of the check of a model.

    Attributes:
        role: what the file is for.
        file: its name, without the folder.
        key_id: of the key that signed it; None if it is not signed by a known one.
        problem: why it is not; may name files.
    """

    role: Literal["model", "draft_model"]
    file: str
    key_id: str | None = None
    problem: str | None = None
