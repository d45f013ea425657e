"""`python -m inferflux_runner_llamacpp.quantize`: a GGUF file with smaller weights."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from inferflux_core.errors import ModelLoadError
from inferflux_core.specs import FileRecipe
from inferflux_gguf.making import add_common_arguments, find_source, replaced_file, run
from inferflux_runner_llamacpp import make_file

__all__ = ["main"]

_EXAMPLES: Final = """\
examples:
  python -m inferflux_runner_llamacpp.quantize smollm2.F16.gguf smollm2.Q4_K_M.gguf --type q4_k_m
  python -m inferflux_runner_llamacpp.quantize smollm2 smollm2.Q8_0.gguf --type q8_0

Exit status: 0, or 1 if it cannot be done; then TARGET is as it was.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Quantize a model; return the exit status."""
    arguments = _parser().parse_args(argv)
    return run(lambda report: _quantize(arguments, report), as_json=arguments.json)


def _quantize(arguments: argparse.Namespace, report: Callable[[float], None]) -> dict[str, Any]:
    source, target = find_source(arguments.source), arguments.target
    if target.suffix != ".gguf":
        raise ModelLoadError(
            f"{target} would be a GGUF file", hint="let the name of the target end in .gguf"
        )
    with replaced_file(target, force=arguments.force) as place:
        make_file(FileRecipe(source, place, arguments.type), report)
    kind = arguments.type.upper()
    return {"target": str(target), "weights": kind, "bytes": target.stat().st_size}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inferflux_runner_llamacpp.quantize",
        description="Makes a GGUF file with smaller weights of one that was not quantized before, or of a "
        "folder with safetensors.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_common_arguments(parser, "a new file that ends in .gguf")
    parser.add_argument("--type", required=True, help="of the weights, such as q4_k_m")
    return parser


if __name__ == "__main__":
    sys.exit(main())
