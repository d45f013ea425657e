"""`python -m inferflux_api.policy`: create and change a policy store."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from inferflux_api.governance.policy import Policy, new_policy
from inferflux_api.governance.policy_store import PASSPHRASE, PolicyStore
from inferflux_core.auth import SCOPES
from inferflux_core.config.schema import RateLimitConfig
from inferflux_core.errors import ConfigError

__all__ = ["main"]

_EXAMPLES = f"""\
examples:
  python -m inferflux_api.policy init --store policy.bin
  python -m inferflux_api.policy init --store policy.bin --requests-per-minute 60 --block swordfish
  python -m inferflux_api.policy add-key --store policy.bin --name ops --scope admin
  python -m inferflux_api.policy add-key --store policy.bin --name app --scope generate --tenant acme
  python -m inferflux_api.policy show --store policy.bin --json
  python -m inferflux_api.policy remove-key --store policy.bin 1f2e3d4c

The file is sealed if {PASSPHRASE} holds a passphrase, for every command and the server.
A running server reads its store when it starts: restart it after a change.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0, or 1 if it is refused."""
    arguments = _parser().parse_args(argv)
    try:
        store = PolicyStore(arguments.store, os.environ.get(PASSPHRASE))
        fields, text, note = arguments.run(store, arguments)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{msgspec.json.encode(fields).decode() if arguments.json else text}\n")
    if note and not arguments.json:
        sys.stderr.write(f"{note}\n")
    return 0


_Answer = tuple[dict[str, Any], str, str]
"""What a command says: as JSON, as text, and to whoever watches the terminal."""


def _init(store: PolicyStore, arguments: argparse.Namespace) -> _Answer:
    limit = arguments.requests_per_minute
    rate_limit = None if limit is None else RateLimitConfig(requests_per_minute=limit)
    fields = _describe(store, store.commit(new_policy(rate_limit, arguments.block)))
    kind = "sealed" if store.sealed else "readable"
    note = "" if store.sealed else f"To seal what it holds, set {PASSPHRASE} before `init`."
    return fields, f"created {store.path} ({kind})", note


def _show(store: PolicyStore, _arguments: argparse.Namespace) -> _Answer:
    fields = _describe(store, store.load())
    lines = [f"{name}: {value}" for name, value in fields.items() if name != "api_keys"]
    for key in fields["api_keys"]:
        lines.append("key {id}: name={name!r} tenant={tenant!r} scopes={scopes}".format(**key))
    return fields, "\n".join(lines), ""


def _add_key(store: PolicyStore, arguments: argparse.Namespace) -> _Answer:
    scopes = sorted(set(arguments.scope))
    policy, identifier, key = store.load().add_key(arguments.name, scopes, arguments.tenant)
    policy = store.commit(policy)
    fields = {"id": identifier, "key": key, "generation": policy.generation}
    return fields, key, f"Key {identifier} is above. Keep it now: it is never shown again."


def _remove_key(store: PolicyStore, arguments: argparse.Namespace) -> _Answer:
    policy = store.commit(store.load().remove_key(arguments.id))
    fields = {"id": arguments.id, "generation": policy.generation}
    return fields, f"removed key {arguments.id}", "A running server knows it until its restart."


def _describe(store: PolicyStore, policy: Policy) -> dict[str, Any]:
    """Everything but the secrets."""
    return {
        "path": str(store.path),
        "sealed": store.sealed,
        "store": str(policy.store),
        "generation": policy.generation,
        "requests_per_minute": policy.rate_limit and policy.rate_limit.requests_per_minute,
        "blocklist": policy.guardrails.blocklist,
        "api_keys": [
            {"id": key.id, "name": key.name, "tenant": key.tenant, "scopes": key.scopes}
            for key in policy.api_keys
        ],
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inferflux_api.policy",
        description="Create and change a policy store: API keys, rate limit and blocklist.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--store", type=Path, required=True, metavar="PATH", help="the file")
    common.add_argument("--json", action="store_true", help="answer with one JSON object")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, summary: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, parents=[common], help=summary, description=summary)
        added.set_defaults(run=run)
        return added

    init = command("init", _init, "create a store")
    init.add_argument("--requests-per-minute", type=int, metavar="N", help="limit of each tenant")
    init.add_argument("--block", action="append", metavar="WORD", help="forbid it; repeatable")
    command("show", _show, "print the policy without its secrets")
    add = command("add-key", _add_key, "add an API key and print it, once")
    add.add_argument(
        "--name", required=True, help="who uses it: letters, digits, spaces and . _ @ -"
    )
    add.add_argument("--scope", action="append", required=True, choices=sorted(SCOPES))
    add.add_argument("--tenant", default="default", help="whose limits count (default)")
    remove = command("remove-key", _remove_key, "remove an API key")
    remove.add_argument("id", metavar="ID", help="as printed by `show`")
    return parser


if __name__ == "__main__":
    sys.exit(main())
