"""`python -m inferflux_gguf.convert`: from GGUF to safetensors, and from safetensors to GGUF."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from inferflux_core.errors import ModelLoadError
from inferflux_gguf import to_folder, to_gguf
from inferflux_gguf.check import check_gguf
from inferflux_gguf.making import (
    add_common_arguments,
    find_source,
    replaced_file,
    replaced_folder,
    run,
)

__all__ = ["main"]

_EXAMPLES: Final = """\
examples:
  python -m inferflux_gguf.convert smollm2.Q4_1.gguf smollm2 --dtype bf16
  python -m inferflux_gguf.convert smollm2 smollm2.gguf

Exit status: 0, or 1 if it cannot be done; then TARGET is as it was.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Convert a model; return the exit status."""
    arguments = _parser().parse_args(argv)
    return run(lambda report: _convert(arguments, report), as_json=arguments.json)


def _convert(arguments: argparse.Namespace, report: Callable[[float], None]) -> dict[str, Any]:
    source, target = find_source(arguments.source), arguments.target
    to_file = target.suffix == ".gguf"
    if source.is_dir():
        if not to_file:
            raise ModelLoadError(
                f"{source} is a folder, which becomes a GGUF file",
                hint="let the name of the target end in .gguf",
            )
        if arguments.dtype is not None:
            raise ModelLoadError(
                "weights keep their type on the way to GGUF",
                hint="leave out --dtype, and quantize the GGUF file: inferctl quantize --help",
            )
        with replaced_file(target, force=arguments.force) as place:
            to_gguf.convert(source, place, report)
        return _described(target, check_gguf(target).quantization, [target])
    if to_file:
        raise ModelLoadError(
            f"{source.name} is a GGUF file, which becomes a folder",
            hint="give the target the name of a folder; inferctl quantize makes smaller GGUF files",
        )
    dtype = arguments.dtype or to_folder.DTYPES[0]
    with replaced_folder(target, to_folder.FILES, force=arguments.force) as place:
        to_folder.convert(source, place, dtype, report)
    return _described(target, dtype.upper(), list(target.iterdir()))


def _described(target: Path, weights: str, files: list[Path]) -> dict[str, Any]:
    size = sum(file.stat().st_size for file in files)
    return {"target": str(target), "weights": weights, "bytes": size}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inferflux_gguf.convert",
        description="Turns a GGUF file into a folder with safetensors, or such a folder into a GGUF file.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_common_arguments(parser, "a new folder, or a new file that ends in .gguf")
    parser.add_argument(
        "--dtype", choices=to_folder.DTYPES, help="of the weights in safetensors (bf16)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
