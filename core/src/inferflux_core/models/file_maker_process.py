"""Makes one model file: `BACKEND SOURCE TARGET QUANTIZATION`.

Writes lines of JSON: `{"done": 0.5}` as it goes on, and `{"error": "..."}` if it cannot be done.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from inferflux_core.errors import StartupError
from inferflux_core.plugins import PluginManager
from inferflux_core.specs import FileRecipe

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Do as the arguments say."""
    backend, source, target, quantization = arguments
    # Libraries write to the standard output as they like.
    with os.fdopen(os.dup(1), "w", buffering=1) as output:
        os.dup2(2, 1)

        def tell(**message: object) -> None:
            output.write(json.dumps(message) + "\n")

        try:
            make = PluginManager(strict=False, trace=False).backend(backend).make_file
            assert make is not None
            recipe = FileRecipe(Path(source), Path(target), quantization or None)
            make(recipe, lambda share: tell(done=share))
        except StartupError as error:
            tell(error=str(error))
        except (OSError, MemoryError) as error:
            tell(error=f"making the model file failed: {str(error) or type(error).__name__}")


if __name__ == "__main__":
    main(sys.argv[1:])
