"""Write configurations of the same server, bare and under governance, for `bench.regimes`.

python -m bench.governed build/governed
python -m bench.regimes overhead --servers build/governed/servers.yaml
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

__all__ = ["main"]

_PORT: Final = 8090
_WORDS: Final = 10_000
_SYLLABLES: Final = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
_LIMITS: Final = {
    "requests_per_minute": 1_000_000,
    "tokens_per_minute": 1_000_000_000,
    "concurrent_requests": 1_000,
    "tokens_per_day": 1_000_000_000_000,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    options = _parser().parse_args(arguments)
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    servers = []
    for name, governance in _governances(folder).items():
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(_base(options.model) | governance))
        servers.append(
            {
                "name": name,
                "command": ["inferfluxd", "--config", str(path)],
                "url": f"http://127.0.0.1:{_PORT}",
                "api_key": "bench",
                "model": "bench" if options.model else "stub",
            }
        )
    (folder / "servers.yaml").write_text(yaml.safe_dump({"servers": servers}))
    return 0


def _base(model: str | None) -> dict[str, Any]:
    runtime = {"backend": "stub", "max_num_seqs": 32} if model is None else {"max_num_seqs": 32}
    return {
        "server": {"port": _PORT},
        "models": [] if model is None else [{"path": model, "name": "bench"}],
        "runtime": runtime,
        "auth": {"api_keys": [{"key": "bench", "scopes": ["generate", "read"]}]},
        "policy_store": None,
        "logging": {"level": "warning"},
    }


def _governances(folder: Path) -> dict[str, dict[str, Any]]:
    blocklist = {"enabled": ["blocklist"], "blocklist": _words()}
    governed = {
        "rate_limit": _LIMITS | {"per_key": _LIMITS},
        "audit": {"path": str(folder / "audit" / "log.jsonl")},
        "guardrails": blocklist,
    }
    everything = governed | {"guardrails": blocklist | {"enabled": ["blocklist", "pii"]}}
    return {"bare": {}, "governed": governed, "everything": everything}


def _words() -> list[str]:
    """Words of four syllables, always the same ones, which no answer is likely to hold."""
    choose = random.Random(1)
    words: set[str] = set()
    while len(words) < _WORDS:
        words.add("".join(choose.choices(_SYLLABLES, k=4)))
    return sorted(words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.governed",
        description="Write configurations of the same server: `bare`; `governed`, with limits, an audit log "
        "and a blocklist of 10,000 words; and `everything`, with the filter of personal data besides.",
        epilog="example:\n  python -m bench.governed build/governed --model model.gguf\n"
        "  python -m bench.regimes steady --servers build/governed/servers.yaml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where to write them, and servers.yaml")
    parser.add_argument("--model", metavar="FILE", help="model to serve (default: the stub)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
