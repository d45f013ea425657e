"""Converting and quantizing models in a process that may be lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncGenerator
from typing import Any, Final

from inferflux_core.errors import InvalidRequestError
from inferflux_core.specs import BackendSpec, FileRecipe

__all__ = ["check_makes_files", "make_file"]

_COMMAND: Final = ("-P", "-m", "inferflux_core.models.file_maker_process")


def check_makes_files(backend: BackendSpec) -> None:
    """Whether a backend converts and quantizes.

    Raises:
        InvalidRequestError: it does not.
    """
    if backend.make_file is None:
        raise InvalidRequestError(
            f"the backend '{backend.name}' neither converts nor quantizes models"
        )


async def make_file(backend: BackendSpec, recipe: FileRecipe) -> AsyncGenerator[float, None]:
    """Make a model file; yields the share that is done, 0 to 1. Who stops listening ends the process.

    Raises:
        InvalidRequestError: this backend does not make files, or not this one.
    """
    check_makes_files(backend)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("INFERFLUX_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *_COMMAND,
        backend.name,
        str(recipe.source),
        str(recipe.target),
        recipe.quantization or "",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env={**backend.environment, **inherited},
    )
    assert process.stdout is not None
    last: dict[str, Any] = {}
    try:
        async for line in process.stdout:
            last = json.loads(line)
            if "done" in last:
                yield last["done"]
        status = await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if "error" in last:
        raise InvalidRequestError(last["error"])
    if status:
        raise InvalidRequestError(
            f"making the model file failed: the process ended with status {status}; "
            "there may be too little memory or disk space"
        )
