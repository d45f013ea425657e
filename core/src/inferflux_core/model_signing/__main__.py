"""`python -m inferflux_core.model_signing`: make keys, sign models, verify them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from inferflux_core.encrypted_adapters.files import write_new
from inferflux_core.errors import ModelLoadError, StartupError
from inferflux_core.file_progress import FileProgress
from inferflux_core.model_signing.extra import require_cryptography
from inferflux_core.model_signing.signing import sign_model, write_public
from inferflux_core.model_signing.verification import verify_model
from inferflux_core.models.reference import resolve

__all__ = ["main"]

_NOT_VERIFIED: Final = 1
_FAILED: Final = 2
_EXAMPLES: Final = """\
examples:
  python -m inferflux_core.model_signing keygen --out release.key
  python -m inferflux_core.model_signing sign model.gguf --key release.key
  python -m inferflux_core.model_signing verify model.gguf --public-key release.key.pub

Files that exist are never overwritten. Exit status: 0; 1 if a model is not as one of the keys has
signed it; 2 if something cannot be done.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        require_cryptography()
        done, text = arguments.run(arguments)
    except StartupError as error:
        is_verdict = arguments.run is _verify and isinstance(error, ModelLoadError)
        status = _NOT_VERIFIED if is_verdict else _FAILED
        return _failed(status, error.message, error.hint, as_json=arguments.json)
    except (OSError, ValueError) as error:
        file = getattr(error, "filename", None)
        reason = getattr(error, "strerror", None) or str(error)
        text = f"{file}: {reason}" if file else reason
        return _failed(_FAILED, text, None, as_json=arguments.json)
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        _write_json({"ok": True, **done})
    else:
        sys.stdout.write(f"{text}\n")
    return 0


def _keygen(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from inferflux_core.model_signing.keys import SigningKey

    key, out = SigningKey.new(arguments.curve), arguments.out
    public = out.with_name(f"{out.name}.pub")
    # The public one first: no private key is left behind if that cannot be written.
    write_public(public, key.public_pem)
    try:
        with write_new(out) as file:
            file.write(key.private_pem)
    except OSError:
        public.unlink()
        raise
    done = {"key": str(out), "public_key": str(public), "key_id": key.key_id}
    return done, f"{out} holds a new key, {public} its public one, {key.key_id[:16]}"


def _sign(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from inferflux_core.model_signing.keys import SigningKey

    key, path = SigningKey.read(arguments.key), resolve(arguments.path)
    target, manifest = sign_model(path, key, arguments.signature, arguments.ignore, FileProgress)
    count = len(manifest.digests)
    done = {"signature": str(target), "files": count, "key_id": key.key_id}
    return done, f"{target} signs {_files(count)} with the key {key.key_id[:16]}"


def _verify(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from inferflux_core.model_signing.keys import TrustedKeys, read_public_key

    keys = TrustedKeys(read_public_key(path) for path in arguments.public_key)
    found = verify_model(resolve(arguments.path), arguments.signature, keys, FileProgress)
    count = len(found.versions) - 1
    done = {
        "verified": True,
        "signature": str(found.signature),
        "files": count,
        "key_id": found.key_id,
    }
    return done, f"{arguments.path}: {_files(count)} as signed with the key {found.key_id[:16]}"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _failed(status: int, message: str, hint: str | None, *, as_json: bool) -> int:
    if as_json:
        verdict = {"verified": False} if status == _NOT_VERIFIED else {}
        _write_json({"ok": False, **verdict, "error": message, "hint": hint})
    else:
        sys.stderr.write(f"{StartupError(message, hint=hint)}\n")
    return status


def _write_json(value: object) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inferflux_core.model_signing",
        description="Signed models, in the OpenSSF model-signing format.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    keygen = commands.add_parser("keygen", parents=[common], help="make a pair of keys")
    keygen.set_defaults(run=_keygen)
    keygen.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a new file; and FILE.pub"
    )
    keygen.add_argument("--curve", choices=("p256", "p384"), default="p256")

    sign = commands.add_parser("sign", parents=[common], help="sign a model")
    sign.set_defaults(run=_sign)
    sign.add_argument("--key", type=Path, required=True, metavar="FILE", help="made by keygen")
    sign.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="NAME",
        help="a file or folder of the model's folder to leave out; may be repeated",
    )

    verify = commands.add_parser(
        "verify", parents=[common], help="compare a model with its signature"
    )
    verify.set_defaults(run=_verify)
    verify.add_argument(
        "--public-key",
        type=Path,
        action="append",
        required=True,
        metavar="FILE",
        help="of a signer that is trusted; may be repeated",
    )
    for command in (sign, verify):
        command.add_argument("path", metavar="MODEL", help="as `model.path`, or a folder")
        command.add_argument(
            "--signature", type=Path, metavar="FILE", help="if not beside the model"
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
