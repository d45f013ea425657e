"""`inferctl admin`: what is asked of the server, and what is shown of its answers."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

KEYS, ROLES, TENANTS = "/v1/admin/api_keys", "/v1/admin/roles", "/v1/admin/tenants"
LIMITS, GUARDRAILS, POLICY = "/v1/admin/rate_limit", "/v1/admin/guardrails", "/v1/admin/policy"
AUDIT = "/v1/admin/audit"

NO_LIMITS: dict[str, Any] = dict.fromkeys(
    ("requests_per_minute", "tokens_per_minute", "concurrent_requests", "tokens_per_day")
)
APP: dict[str, Any] = {
    "object": "admin.api_key",
    "id": "1f2e3d4c",
    "name": "app",
    "scopes": ["generate", "read"],
    "roles": [],
    "tenant": "acme",
    "models": None,
    "limits": {**NO_LIMITS, "requests_per_minute": 20},
    "expires_at": None,
    "source": "policy",
}
ROOT = {**APP, "id": None, "name": "root", "scopes": ["admin"], "source": "configuration"}
OPERATOR = {"name": "operator", "scopes": ["read", "models:write"], "source": "policy"}
ACME = {
    "name": "acme",
    "disabled": True,
    "models": ["m"],
    "limits": {**NO_LIMITS, "tokens_per_day": 5},
}
RATE: dict[str, Any] = {
    **NO_LIMITS,
    "object": "admin.rate_limit",
    "requests_per_minute": 200,
    "per_key": {**NO_LIMITS, "concurrent_requests": 2},
    "tenants": {"acme": {**NO_LIMITS, "requests_per_minute": 9}},
    "source": "policy",
    "generation": 7,
}
GUARDED = {
    "object": "admin.guardrails",
    "enabled": ["blocklist", "pii"],
    "blocklist": ["secret", "pii"],
    "options": {"pii": {"entities": ["email"]}},
    "available": ["blocklist", "pii"],
    "source": {"enabled": "configuration", "blocklist": "policy"},
    "generation": 7,
}
IN_FORCE = {
    "object": "admin.policy",
    "store": "cb802579",
    "location": "config/policy_store.conf",
    "sealed": True,
    "generation": 7,
    "age_seconds": 0.2,
    "change": {"at": 1795464000, "by": "ops", "what": "add the key app"},
    "api_keys": 1,
    "roles": 2,
    "tenants": 3,
}


NONSENSE: tuple[dict[str, Any], ...] = (
    {"data": 3, "generation": "x", "change": 3, "age_seconds": float("nan")},
    {"data": [3, {}, {"id": "x", "scopes": 3, "limits": 3}], "generation": 7, "enabled": 3},
)


def listing(*data: dict[str, Any]) -> dict[str, Any]:
    return {"object": "list", "data": list(data), "generation": 7}


def sent(server) -> list[tuple[str, str, Any, str | None]]:
    """Each request: method, path, body and the generation that it was decided on."""
    return [(r.method, r.path, r.body, r.headers.get("if-match")) for r in server.requests]


# API keys


def test_keys_are_listed(server, inferctl) -> None:
    server.json(KEYS, listing(ROOT, APP))

    root, app = inferctl("admin", "api-keys", "--list").out.splitlines()

    assert root.split("\t")[:3] == ["-", "root", "admin"]
    assert app.split("\t") == [
        *("1f2e3d4c", "app", "generate, read", "-", "acme", "-", "20 requests/min", "-", "policy")
    ]
    assert inferctl("admin", "api-keys", "--list", "--json").lines == [listing(ROOT, APP)]


def test_a_new_key_stands_alone_on_stdout(server, inferctl) -> None:
    made = {**APP, "value": "ifx_1f2e3d4c_00", "generation": 8}
    server.json(KEYS, made)
    command = ("admin", "api-keys", "--add", "app", "--scopes", "generate, read", "--roles", "a,b")
    limits = ("--requests-per-minute", "20", "--concurrent", "2")

    done = inferctl(*command, "--tenant", "acme", "--models", "m1,m2", "--expires", "30d", *limits)

    assert (done.code, done.out) == (0, "ifx_1f2e3d4c_00\n")
    assert "only this once" in done.err
    assert "ifx_" not in done.err
    wanted = {
        "name": "app",
        "scopes": ["generate", "read"],
        "roles": ["a", "b"],
        "tenant": "acme",
        "models": ["m1", "m2"],
        "expires_in": 30 * 86400,
        "limits": {"requests_per_minute": 20, "concurrent_requests": 2},
    }
    assert sent(server) == [("POST", KEYS, wanted, None)]
    as_json = inferctl(*command, "--json")
    assert (as_json.lines, as_json.err) == ([made], "")


def test_a_key_ends_on_a_day(server, inferctl) -> None:
    server.json(KEYS, {**APP, "value": "ifx"})

    inferctl("admin", "api-keys", "--add", "app", "--expires", "2999-01-01")

    day = datetime(2999, 1, 1, tzinfo=UTC).timestamp()
    assert server.bodies(KEYS) == [{"name": "app", "expires_at": day}]


@pytest.mark.parametrize("wanted", ["1f2e3d4c", "app"])
def test_a_key_is_changed_by_id_or_name(server, inferctl, wanted: str) -> None:
    server.json(KEYS, listing(ROOT, APP))
    server.json(f"{KEYS}/1f2e3d4c", APP)
    command = ("admin", "api-keys", "--set", wanted, "--scopes", "read", "--tokens-per-day", "9")

    done = inferctl(*command, "--none", "expires", "--none", "models", "--none", "roles")

    assert (done.code, done.out) == (0, f"{wanted} changed\n")
    body = {
        "scopes": ["read"],
        "expires_at": None,
        "models": None,
        "roles": [],
        # What it does not name stays, though the server takes limits as a whole.
        "limits": {**NO_LIMITS, "requests_per_minute": 20, "tokens_per_day": 9},
    }
    assert sent(server)[1:] == [("POST", f"{KEYS}/1f2e3d4c", body, '"7"')]


def test_a_key_is_taken_back_by_its_name(server, inferctl) -> None:
    server.json(KEYS, listing(ROOT, APP))
    gone = {"object": "admin.api_key.deleted", "id": "1f2e3d4c", "deleted": True, "generation": 8}
    server.json(f"{KEYS}/1f2e3d4c", gone)

    assert inferctl("admin", "api-keys", "--remove", "app", "--yes").out == "app removed\n"
    assert sent(server)[1:] == [("DELETE", f"{KEYS}/1f2e3d4c", None, None)]
    assert inferctl("admin", "api-keys", "--remove", "app", "--yes", "--json").lines == [gone]


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("root", "one of the server's configuration"),
        ("nobody", "inferctl admin api-keys --list"),
        ("aaaa0000", "is the id of a key and the name of another"),
    ],
)
@pytest.mark.parametrize("action", [("--remove", "--yes"), ("--set", "--tenant=x")])
def test_no_other_key_is_touched(server, inferctl, wanted: str, says: str, action) -> None:
    trap = {**APP, "id": "bbbb0000", "name": "aaaa0000"}
    server.json(KEYS, listing(ROOT, {**APP, "id": "aaaa0000"}, trap))

    done = inferctl("admin", "api-keys", action[0], wanted, action[1])

    assert done.code == 1
    assert says in done.err
    assert [r.method for r in server.requests] == ["GET"]


@pytest.mark.parametrize(
    ("answer", "taken"), [("y", True), ("n", False), ("", False)], ids=["y", "n", "enter"]
)
def test_somebody_at_a_terminal_is_asked(server, terminal, answer: str, taken: bool) -> None:
    server.json(KEYS, listing(APP))
    server.json(f"{KEYS}/1f2e3d4c", {"deleted": True})

    screen = terminal("admin", "api-keys", "--remove", "app")
    screen.expect("Take back the key app (1f2e3d4c: generate, read; acme)? [y/N]")
    screen.send(f"{answer}\n")
    screen.expect("app removed" if taken else "app was not removed")

    assert screen.wait() == (0 if taken else 1)
    assert [r.method for r in server.requests] == (["GET", "DELETE"] if taken else ["GET"])


# Roles and tenants


def test_roles(server, inferctl) -> None:
    server.json(ROLES, listing(OPERATOR))
    server.json(f"{ROLES}/operator", OPERATOR)
    server.json(f"{ROLES}/a%20b%2F%2E%2E", OPERATOR)
    roles = ("admin", "roles")

    assert inferctl(*roles, "--list").out == "operator\tread, models:write\tpolicy\n"
    assert inferctl(*roles, "--set", "operator", "--scopes", "read").out == "operator changed\n"
    assert inferctl(*roles, "--set", "a b/..", "--scopes", "read").out == "a b/.. added\n"
    assert inferctl(*roles, "--remove", "operator", "--yes").out == "operator removed\n"

    assert [request for request in sent(server) if request[0] != "GET"] == [
        ("POST", f"{ROLES}/operator", {"scopes": ["read"]}, '"7"'),
        ("POST", f"{ROLES}/a%20b%2F%2E%2E", {"scopes": ["read"]}, '"7"'),
        ("DELETE", f"{ROLES}/operator", None, '"7"'),
    ]


def test_tenants(server, inferctl) -> None:
    server.json(TENANTS, listing(ACME))
    server.json(f"{TENANTS}/acme", ACME)
    server.json(f"{TENANTS}/new", ACME)
    tenants = ("admin", "tenants")

    assert inferctl(*tenants, "--list").out == "acme\tdisabled\tm\t5 tokens/day\n"
    changed = inferctl(*tenants, "--set", "acme", "--enable", "--requests-per-minute", "3")
    added = inferctl(*tenants, "--set", "new", "--disable", "--models", "a,b")
    lifted = inferctl(*tenants, "--set", "acme", "--none", "models", "--none", "tokens-per-day")
    removed = inferctl(*tenants, "--remove", "acme", "--yes")

    said = [done.out for done in (changed, added, lifted, removed)]
    assert said == ["acme changed\n", "new added\n", "acme changed\n", "acme removed\n"]
    kept = ACME["limits"]
    more = {**kept, "requests_per_minute": 3}
    assert [request for request in sent(server) if request[0] != "GET"] == [
        ("POST", f"{TENANTS}/acme", {"disabled": False, "limits": more}, '"7"'),
        ("POST", f"{TENANTS}/new", {"disabled": True, "models": ["a", "b"]}, '"7"'),
        ("POST", f"{TENANTS}/acme", {"models": None, "limits": NO_LIMITS}, '"7"'),
        ("DELETE", f"{TENANTS}/acme", None, '"7"'),
    ]


# Limits


def test_limits_are_shown(server, inferctl) -> None:
    server.json(LIMITS, RATE)

    assert inferctl("admin", "rate-limit").out.splitlines() == [
        "each tenant\t200\t-\t-\t-\tpolicy",
        "each key\t-\t-\t2\t-\tpolicy",
        "tenant acme\t9\t-\t-\t-\tpolicy",
    ]
    assert inferctl("admin", "rate-limit", "--json").lines == [RATE]


@pytest.mark.parametrize(
    ("options", "body"),
    [
        (("--set", "200"), {"requests_per_minute": 200}),
        (("--tokens-per-minute", "5"), {"tokens_per_minute": 5}),
        (
            ("--set", "1", "--concurrent", "2", "--tokens-per-day", "3"),
            {"requests_per_minute": 1, "concurrent_requests": 2, "tokens_per_day": 3},
        ),
        (("--none", "requests-per-minute"), {"requests_per_minute": None}),
        (
            ("--set", "4", "--none", "concurrent"),
            {"requests_per_minute": 4, "concurrent_requests": None},
        ),
    ],
)
def test_limits_are_set(server, inferctl, options: tuple[str, ...], body) -> None:
    server.json(LIMITS, RATE)

    done = inferctl("admin", "rate-limit", *options)

    assert (done.code, done.out.splitlines()[0]) == (0, "each tenant\t200\t-\t-\t-\tpolicy")
    assert sent(server) == [("POST", LIMITS, body, None)]


def test_limits_of_keys_are_merged_with_those_seen(server, inferctl) -> None:
    server.json(LIMITS, RATE)

    inferctl("admin", "rate-limit", "--per-key", "--set", "20")
    inferctl("admin", "rate-limit", "--per-key", "--none", "concurrent")

    first = {**NO_LIMITS, "requests_per_minute": 20, "concurrent_requests": 2}
    changes = [("POST", LIMITS, {"per_key": said}, '"7"') for said in (first, NO_LIMITS)]
    assert sent(server)[1::2] == changes


def test_limits_go_back_to_the_configuration(server, inferctl) -> None:
    server.json(LIMITS, {**RATE, "source": "configuration"})

    assert "configuration" in inferctl("admin", "rate-limit", "--reset").out
    assert sent(server) == [("DELETE", LIMITS, None, None)]


# Guardrails


def test_guardrails_are_shown_without_the_words(server, inferctl) -> None:
    server.json(GUARDRAILS, GUARDED)

    done = inferctl("admin", "guardrails", "--list")

    assert (done.out.splitlines(), done.err) == (
        [
            "run, in this order\tblocklist, pii\tconfiguration",
            "blocked words\t2\tpolicy",
            "options for\tpii\t-",
            "installed\tblocklist, pii\t-",
        ],
        "",
    )
    assert inferctl("admin", "guardrails", "--list", "--json").lines == [GUARDED]


@pytest.mark.parametrize(
    ("options", "stdin", "body"),
    [
        (("--set", "secret,pii"), "", {"blocklist": ["secret", "pii"]}),
        (("--set", " a b , c,,c"), "", {"blocklist": ["a b", "c"]}),
        (("--set", "-"), "\ufeffone, two\r\n\nthrée\n", {"blocklist": ["one, two", "thrée"]}),
        (("--enable", "pii,blocklist"), "", {"enabled": ["pii", "blocklist"]}),
        (("--none", "words"), "", {"blocklist": []}),
        (("--none", "enabled"), "", {"enabled": []}),
    ],
)
def test_lists_of_guardrails_are_replaced(server, inferctl, options, stdin: str, body) -> None:
    server.json(GUARDRAILS, GUARDED)

    done = inferctl("admin", "guardrails", *options, stdin=stdin)

    assert done.code == 0
    assert "blocked words\t2\tpolicy" in done.out
    assert sent(server) == [("GET", GUARDRAILS, None, None), ("POST", GUARDRAILS, body, '"7"')]


def test_words_come_from_a_file(server, inferctl, tmp_path: Path) -> None:
    server.json(GUARDRAILS, GUARDED)
    words = [f"word {number}" for number in range(2000)]
    file = tmp_path / "words.txt"
    file.write_text("\n".join(words))

    inferctl("admin", "guardrails", "--file", str(file))

    assert server.bodies(GUARDRAILS) == [{"blocklist": words}]


def test_guardrails_go_back_to_the_configuration(server, inferctl) -> None:
    server.json(GUARDRAILS, GUARDED)

    assert inferctl("admin", "guardrails", "--reset").code == 0
    assert sent(server) == [("DELETE", GUARDRAILS, None, None)]


def test_words_that_do_nothing_are_noted(server, inferctl) -> None:
    server.json(GUARDRAILS, {**GUARDED, "enabled": []})

    done = inferctl("admin", "guardrails", "--set", "secret,pii")

    assert "pii is a word now; to run the guardrail pii, use --enable" in done.err
    assert "the guardrail `blocklist` does not run" in done.err


# The policy


def test_the_policy_in_force(server, inferctl) -> None:
    server.json(POLICY, IN_FORCE)

    rows = dict(line.split("\t") for line in inferctl("admin", "policy").out.splitlines())

    assert rows.pop("made").startswith("2026-11-")
    assert rows == {
        "generation": "7",
        "by": "ops",
        "what": "add the key app",
        "kept in": "config/policy_store.conf",
        "encrypted": "yes",
        "looked at": "0.2 s ago",
        "API keys": "1",
        "roles": "2",
        "tenants": "3",
    }
    assert inferctl("admin", "policy", "--json").lines == [IN_FORCE]


@pytest.mark.parametrize("command", [("policy", "--history"), ("generations",)])
def test_the_history(server, inferctl, command: tuple[str, ...]) -> None:
    first = {"generation": 6, "current": False, "change": None}
    found = listing({"generation": 7, "current": True, "change": IN_FORCE["change"]}, first)
    server.json(f"{POLICY}/generations", found)

    newest, oldest = inferctl("admin", *command).out.splitlines()

    assert newest.split("\t")[:2] == ["7", "in force"]
    assert newest.split("\t")[3:] == ["ops", "add the key app"]
    assert oldest.split("\t") == ["6", "-", "-", "-", "-"]
    assert inferctl("admin", *command, "--json").lines == [found]


@pytest.mark.parametrize("limits", [None, {k: RATE[k] for k in (*NO_LIMITS, "per_key")}])
def test_what_a_generation_said(server, inferctl, limits: Any) -> None:
    found = {
        **{"generation": 5, "change": None, "rate_limit": limits},
        **{"api_keys": [APP], "roles": [OPERATOR], "tenants": [ACME]},
        "guardrails": {"enabled": None, "blocklist": ["x"], "options": {}},
    }
    server.json(f"{POLICY}/generations/5", found)

    shown = inferctl("admin", "policy", "--show", "5").out

    for part in ("generation\t5", "1f2e3d4c\tapp", "operator\tread", "acme\tdisabled"):
        assert f"{part}" in shown
    assert ("limits as configured" if limits is None else "each tenant\t200") in shown
    assert "run, in this order\tas configured\nblocked words\t1\n" in shown
    assert inferctl("admin", "policy", "--show", "5", "--json").lines == [found]


def test_the_way_back(server, inferctl) -> None:
    server.json(POLICY, IN_FORCE)
    server.json(f"{POLICY}/generations/5", {"generation": 5, "change": None})
    server.json(f"{POLICY}/rollback", {**IN_FORCE, "generation": 8})

    done = inferctl("admin", "policy", "--rollback", "5", "--yes")

    assert done.out == "as generation 5 again, API keys aside; this is generation 8\n"
    assert sent(server)[-1] == ("POST", f"{POLICY}/rollback", {"generation": 5}, '"7"')


def test_nothing_is_rolled_back_unless_it_is_wanted(server, terminal) -> None:
    server.json(POLICY, IN_FORCE)
    change = {"at": 1, "by": "\x1b[31mops", "what": "set limits"}
    server.json(f"{POLICY}/generations/5", {"generation": 5, "change": change})

    screen = terminal("admin", "policy", "--rollback", "5")
    screen.expect("Go back from generation 7 to 5 (set limits, by [31mops)?")
    screen.send("\n")

    assert screen.wait() == 1
    assert "the policy was not changed" in screen.screen
    assert {r.method for r in server.requests} == {"GET"}


# The audit log


def test_the_audit_log(server, inferctl) -> None:
    refused = {
        **{"seq": 4, "time": 1795464000.5, "event": "refused", "prev": "ab"},
        **{"subject": "x\x1b[2J y", "reason": "insufficient_scope"},
    }
    found = {"object": "list", "data": [refused], "has_more": True}
    server.json(f"{AUDIT}?event=refused&tenant=a+b&limit=1", found)
    command = ("admin", "audit", "--event", "refused", "--tenant", "a b", "-n", "1")

    done = inferctl(*command)

    moment = "2026-11-23T20:00:00.500+00:00"
    assert done.out == (f"4 {moment} refused subject='x\\x1b[2J y' reason=insufficient_scope\n")
    assert "there are earlier ones" in done.err
    assert inferctl(*command, "--json").lines == [found]


def test_the_audit_log_since(server, inferctl) -> None:
    until = datetime(2026, 12, 1, tzinfo=UTC).timestamp()

    inferctl("admin", "audit", "--since", "2h", "--until", "2026-12-01")

    _, _, query = server.requests[0].path.partition("?")
    (_, since), pair = (part.split("=") for part in query.split("&"))
    assert time.time() - 7200 == pytest.approx(float(since), abs=60)
    assert pair == ["until", str(until)]


# Failures


@pytest.mark.parametrize(
    "arguments",
    [
        ("api-keys",),
        ("api-keys", "--list", "--add", "x"),
        ("api-keys", "--add", "x", "--set", "y"),
        ("api-keys", "--list", "--tenant", "x"),
        ("api-keys", "--list", "--yes"),
        ("api-keys", "--add", "x", "--none", "models"),
        ("api-keys", "--add", "x", "--scopes", ","),
        ("api-keys", "--add", "x", "--expires", "2001-01-01"),
        ("api-keys", "--add", "x", "--expires", "soon"),
        ("api-keys", "--add", "x", "--concurrent", "0"),
        ("api-keys", "--set", "x"),
        ("api-keys", "--set", "x", "--models", "m", "--none", "models"),
        ("api-keys", "--remove", "x"),
        ("api-keys", "--remove", "x", "--scopes", "read", "--yes"),
        ("roles",),
        ("roles", "--set", "x"),
        ("roles", "--set", "", "--scopes", "read"),
        ("roles", "--remove", "x"),
        ("roles", "--list", "--scopes", "read"),
        ("tenants",),
        ("tenants", "--set", "x"),
        ("tenants", "--list", "--enable"),
        ("tenants", "--remove", "x", "--json"),
        ("rate-limit", "--set", "0"),
        ("rate-limit", "--set", "1", "--none", "requests-per-minute"),
        ("rate-limit", "--per-key"),
        ("rate-limit", "--reset", "--set", "1"),
        ("rate-limit", "--none", "models"),
        ("guardrails",),
        ("guardrails", "--list", "--reset"),
        ("guardrails", "--set", ""),
        ("guardrails", "--set", "-"),
        ("guardrails", "--enable", ""),
        ("policy", "--history", "--show", "1"),
        ("policy", "--yes"),
        ("policy", "--rollback", "1"),
        ("policy", "--show", "0"),
        ("audit", "--since", "yesterday"),
        ("audit", "-n", "1001"),
    ],
    ids=" ".join,
)
def test_wrong_usage_asks_nothing_of_the_server(server, inferctl, arguments) -> None:
    done = inferctl("admin", *arguments)

    assert (done.code, done.out) == (2, "")
    assert server.requests == []


@pytest.mark.parametrize(
    ("command", "path", "status", "code", "exit_code", "hint"),
    [
        (("rate-limit", "--set", "1"), LIMITS, 412, "precondition_failed", 1, "look at it again"),
        (("rate-limit", "--set", "1"), LIMITS, 503, "policy_unavailable", 1, "a policy store"),
        (("rate-limit", "--set", "1"), LIMITS, 403, "insufficient_scope", 4, "`policy:write`"),
        (("rate-limit",), LIMITS, 403, "insufficient_scope", 4, "`policy:read`"),
        (("audit",), AUDIT, 403, "insufficient_scope", 4, "`audit:read`"),
        (("rate-limit",), LIMITS, 401, "invalid_api_key", 4, "INFERCTL_API_KEY"),
        (("roles", "--list"), ROLES, 409, "conflict", 1, None),
        (("policy", "--show", "1"), f"{POLICY}/generations/1", 404, "not_found", 1, None),
    ],
)
def test_errors_say_what_to_do(
    server, inferctl, command, path: str, status: int, code: str, exit_code: int, hint: str | None
) -> None:
    server.error(path, status, code, "that went wrong")

    done = inferctl("admin", *command)

    assert (done.code, done.out) == (exit_code, "")
    assert done.err.startswith("error: that went wrong\n")
    assert (hint in done.err) if hint else ("hint" not in done.err)
    assert inferctl("admin", *command, "--json").error["code"] == code


def test_the_scope_that_the_server_names_is_hinted_at(server, inferctl) -> None:
    server.error(KEYS, 403, "insufficient_scope", "that needs the scope 'admin', which this lacks")

    assert "with the scope `admin`" in inferctl("admin", "api-keys", "--add", "x").err


def test_a_disabled_tenant_lacks_no_scope(server, inferctl) -> None:
    server.error(KEYS, 403, "insufficient_scope", "the tenant 'acme' is disabled")

    assert "scope" not in inferctl("admin", "api-keys", "--list").err


def test_what_others_changed_meanwhile_is_not_overwritten(server, inferctl) -> None:
    server.json(GUARDRAILS, GUARDED)
    server.error(GUARDRAILS, 412, "precondition_failed", "the policy is of generation 8, not 7")

    done = inferctl("admin", "guardrails", "--set", "x", "--json")

    assert (done.code, done.out) == (1, "")
    assert done.error["status"] == 412
    assert "repeat the command" in done.error["hint"]


@pytest.mark.parametrize("body", NONSENSE)
@pytest.mark.parametrize(
    "command",
    [
        ("api-keys", "--remove", "x", "--yes"),
        ("api-keys", "--list"),
        ("api-keys", "--add", "x"),
        ("api-keys", "--set", "x", "--tenant", "y"),
        ("roles", "--list"),
        ("roles", "--set", "x", "--scopes", "read"),
        ("tenants", "--list"),
        ("rate-limit",),
        ("guardrails", "--list"),
        ("guardrails", "--set", "x"),
        ("policy",),
        ("policy", "--history"),
        ("audit",),
    ],
    ids=" ".join,
)
def test_nonsense_answers_end_in_no_traceback(server, inferctl, command, body) -> None:
    paths = (KEYS, ROLES, TENANTS, LIMITS, GUARDRAILS, POLICY, f"{POLICY}/generations", f"{AUDIT}?")
    for path in (*paths, AUDIT, f"{ROLES}/x", f"{KEYS}/x"):
        server.json(path, body)

    assert inferctl("admin", *command).code in (0, 1)


def test_a_server_without_this_api(server, inferctl) -> None:
    assert "that has this API" in inferctl("admin", "policy").err


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_files_that_are_no_lists(server, inferctl, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "words"
    if content is not None:
        file.write_bytes(content)

    done = inferctl("admin", "guardrails", "--file", str(file))

    assert (done.code, server.requests) == (1, [])
    assert str(file) in done.err
