"""`python -m inferflux_core.encrypted_adapters`: make keys, encrypt adapters, encrypt them anew."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from inferflux_core.encrypted_adapters.files import encrypt_file, reencrypt_file, write_new
from inferflux_core.encrypted_adapters.header import SUFFIX, Header, adapter_name
from inferflux_core.encrypted_adapters.keyset import Keyset, new_keyset
from inferflux_core.errors import StartupError
from inferflux_core.file_progress import FileProgress

__all__ = ["main"]

_EXAMPLES: Final = """\
examples:
  python -m inferflux_core.encrypted_adapters keygen --out keys.json
  python -m inferflux_core.encrypted_adapters encrypt support.gguf --key-file keys.json
  python -m inferflux_core.encrypted_adapters keygen --out keys-2.json --previous keys.json
  python -m inferflux_core.encrypted_adapters reencrypt support.gguf.enc --key-file keys-2.json --out new.enc

Files that exist are never overwritten. Exit status: 0, or 2 if it cannot be done.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        done: dict[str, Any] = arguments.run(arguments)
    except StartupError as error:
        return _failed(error.message, error.hint, as_json=arguments.json)
    except (OSError, ValueError) as error:
        file = getattr(error, "filename", None)
        reason = getattr(error, "strerror", None) or str(error)
        return _failed(f"{file}: {reason}" if file else reason, None, as_json=arguments.json)
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        _write_json({"ok": True, **done})
    else:
        name = f" holds '{done['name']}'," if "name" in done else " holds a new key,"
        sys.stdout.write(f"{done['file']}{name} key {done['key_id']}\n")
    return 0


def _keygen(arguments: argparse.Namespace) -> dict[str, Any]:
    content, key_id = new_keyset(arguments.previous)
    with write_new(arguments.out) as file:
        file.write(content)
    return {"file": str(arguments.out), "key_id": key_id}


def _encrypt(arguments: argparse.Namespace) -> dict[str, Any]:
    source: Path = arguments.file
    name = arguments.name or adapter_name(arguments.out or source)
    target = arguments.out or source.with_name(name + SUFFIX)
    keyset = Keyset(arguments.key_file)
    return _described(encrypt_file(source, target, name, keyset, _progress(source)), target)


def _reencrypt(arguments: argparse.Namespace) -> dict[str, Any]:
    source, target = arguments.file, arguments.out
    keyset = Keyset(arguments.key_file)
    return _described(reencrypt_file(source, target, keyset, _progress(source)), target)


def _progress(source: Path) -> FileProgress:
    return FileProgress(source.stat().st_size)


def _described(header: Header, target: Path) -> dict[str, Any]:
    return {"file": str(target), "name": header.name, "key_id": header.key_id}


def _failed(message: str, hint: str | None, *, as_json: bool) -> int:
    if as_json:
        _write_json({"ok": False, "error": message, "hint": hint})
    else:
        sys.stderr.write(f"{StartupError(message, hint=hint)}\n")
    return 2


def _write_json(value: object) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inferflux_core.encrypted_adapters",
        description="LoRA adapters in encrypted files.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    keygen = commands.add_parser("keygen", parents=[common], help="make a key file")
    keygen.set_defaults(run=_keygen)
    keygen.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file")
    keygen.add_argument(
        "--previous",
        type=Path,
        metavar="FILE",
        help="a key file whose key can still read what it encrypted",
    )

    encrypt = commands.add_parser("encrypt", parents=[common], help="encrypt a GGUF file")
    encrypt.set_defaults(run=_encrypt)
    encrypt.add_argument("--name", help="of the adapter (by the name of the file)")

    reencrypt = commands.add_parser(
        "reencrypt", parents=[common], help="encrypt an encrypted file with the newest key"
    )
    reencrypt.set_defaults(run=_reencrypt)
    for command in (encrypt, reencrypt):
        command.add_argument("file", type=Path, metavar="FILE")
        command.add_argument("--key-file", type=Path, required=True, metavar="FILE")
        command.add_argument(
            "--out", type=Path, required=command is reencrypt, metavar="FILE", help="a new file"
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
