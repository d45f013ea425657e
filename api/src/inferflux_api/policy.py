"""`python -m inferflux_api.policy`: look after a policy store without a server."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from inferflux_api.governance.policy.changes import Editor, NewKey
from inferflux_api.governance.policy.document import Change, Policy
from inferflux_api.governance.policy.opening import create_store, store_at
from inferflux_api.governance.policy.store import (
    NEXT_PASSPHRASE,
    PASSPHRASE,
    PolicyStore,
    Snapshot,
)
from inferflux_core.auth import SCOPES
from inferflux_core.config.schema import DEFAULT_POLICY_STORE
from inferflux_core.errors import ConfigError, InferFluxError

__all__ = ["main"]

_EXAMPLES = f"""\
examples:
  python -m inferflux_api.policy init
  python -m inferflux_api.policy init --store postgresql://inferflux@db/inferflux
  python -m inferflux_api.policy show --store policy.bin --json
  python -m inferflux_api.policy add-key --store policy.bin --name ops --scope admin
  python -m inferflux_api.policy remove-key --store policy.bin 1f2e3d4c
  python -m inferflux_api.policy history --store policy.bin
  python -m inferflux_api.policy rotate --store policy.bin

The store is sealed if {PASSPHRASE} holds a passphrase, for every command and the server.
`rotate` seals it with that of {NEXT_PASSPHRASE}.
A running server follows changes within a second. `inferctl admin` does all of this, and more, over its API.
"""
_BY = "python -m inferflux_api.policy"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0, or 1 if it is refused."""
    arguments = _parser().parse_args(argv)
    try:
        store = store_at(arguments.store, os.environ)
        fields, text, note = arguments.run(store, arguments)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except InferFluxError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    sys.stdout.write(f"{msgspec.json.encode(fields).decode() if arguments.json else text}\n")
    if note and not arguments.json:
        sys.stderr.write(f"{note}\n")
    return 0


_Answer = tuple[dict[str, Any], str, str]
"""What a command says: as JSON, as text, and to whoever watches the terminal."""


def _init(store: PolicyStore, _arguments: argparse.Namespace) -> _Answer:
    key = create_store(store, _BY)
    kind = "sealed" if store.sealed else "readable"
    note = f"Created {store.label} ({kind}). Above is a key that may do everything; it is never shown again."
    if not store.sealed:
        note += f"\nTo seal the store, set {NEXT_PASSPHRASE} and run `rotate`."
    return {**_describe(store, _load(store).policy), "key": key}, key, note


def _show(store: PolicyStore, _arguments: argparse.Namespace) -> _Answer:
    fields = _describe(store, _load(store).policy)
    lines = [f"{name}: {value}" for name, value in fields.items() if name != "api_keys"]
    for key in fields["api_keys"]:
        lines.append("key {id}: name={name!r} tenant={tenant!r} scopes={scopes}".format(**key))
    return fields, "\n".join(lines), ""


def _add_key(store: PolicyStore, arguments: argparse.Namespace) -> _Answer:
    before = _load(store)
    new = NewKey(name=arguments.name, scopes=arguments.scope, tenant=arguments.tenant)
    policy, key, credential = Editor().add_key(before.policy, new)
    policy = store.commit(before, policy, _change(f"add the key {key.name}")).policy
    fields = {"id": key.id, "key": credential, "generation": policy.generation}
    return fields, credential, f"Key {key.id} is above. Keep it now: it is never shown again."


def _remove_key(store: PolicyStore, arguments: argparse.Namespace) -> _Answer:
    before = _load(store)
    policy = Editor().remove_key(before.policy, arguments.id)
    policy = store.commit(before, policy, _change(f"remove the key {arguments.id}")).policy
    return {"id": arguments.id, "generation": policy.generation}, f"removed key {arguments.id}", ""


def _history(store: PolicyStore, _arguments: argparse.Namespace) -> _Answer:
    current = _load(store).policy
    earlier = (store.generation(number) for number in store.generations())
    policies = [current, *(p for p in earlier if p and p.generation < current.generation)]
    entries = [
        {"generation": p.generation, **(msgspec.to_builtins(p.change) if p.change else {})}
        for p in policies
    ]
    lines = [
        f"{p.generation}\t{_when(p.change)}\t{p.change.by if p.change else ''}\t"
        f"{p.change.what if p.change else ''}"
        for p in policies
    ]
    return {"generations": entries}, "\n".join(lines), ""


def _rotate(store: PolicyStore, _arguments: argparse.Namespace) -> _Answer:
    policy = store.rotate(_change("change the passphrase")).policy
    note = f"Give every server the new passphrase as {PASSPHRASE}, and take {NEXT_PASSPHRASE} away."
    return {"generation": policy.generation}, f"{store.label} is sealed anew", note


def _load(store: PolicyStore) -> Snapshot:
    snapshot = store.load()
    if snapshot is None:
        raise ConfigError(f"{store.label}: does not exist", hint="`init` creates it")
    return snapshot


def _change(what: str) -> Change:
    return Change(at=time.time(), by=_BY, what=what)


def _when(change: Change | None) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(change.at)) if change else ""


def _describe(store: PolicyStore, policy: Policy) -> dict[str, Any]:
    """Everything but the secrets."""
    return {
        "path": store.label,
        "sealed": store.sealed,
        "store": str(policy.store),
        "generation": policy.generation,
        "requests_per_minute": policy.rate_limit and policy.rate_limit.requests_per_minute,
        "blocklist": policy.guardrails.blocklist,
        "roles": policy.roles,
        "tenants": sorted(policy.tenants),
        "api_keys": [
            {
                "id": key.id,
                "name": key.name,
                "tenant": key.tenant,
                "scopes": key.scopes,
                "roles": key.roles,
            }
            for key in policy.api_keys
        ],
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inferflux_api.policy",
        description="Look after a policy store: API keys, history and passphrase.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--store",
        default=os.environ.get("INFERFLUX_POLICY_STORE", DEFAULT_POLICY_STORE),
        metavar="WHERE",
        help="a file, redis://... or postgresql://...; by default INFERFLUX_POLICY_STORE, or "
        f"{DEFAULT_POLICY_STORE}",
    )
    common.add_argument("--json", action="store_true", help="answer with one JSON object")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, summary: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, parents=[common], help=summary, description=summary)
        added.set_defaults(run=run)
        return added

    command("init", _init, "create a store with one key that may do everything, and print that")
    command("show", _show, "print the policy without its secrets")
    command("history", _history, "print how the policy became what it is, newest first")
    command("rotate", _rotate, f"seal the store with the passphrase in {NEXT_PASSPHRASE}")
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
