"""`audit` hands over to the server's own module."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

_SCRIPT = """
import json, sys
print(json.dumps(sys.argv[1:]))
sys.exit(5)
"""


@pytest.fixture
def api(tmp_path: Path) -> Path:
    """A stand-in for the server, to be put in front of an installed one."""
    package = tmp_path / "site" / "inferflux_api"
    for folder in (package, package / "governance", package / "governance" / "audit"):
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    (package / "governance" / "audit" / "__main__.py").write_text(_SCRIPT)
    return package


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (("tail", "a.jsonl"), ["tail", "-n", "10", "a.jsonl"]),
        (("tail", "--", "-a"), ["tail", "-n", "10", "./-a"]),
        (("tail", "-n", "0", "a.jsonl"), None),
        (
            ("tail", "a.jsonl", "-n", "3", "--follow", "--json"),
            ["tail", "-n", "3", "--follow", "a.jsonl", "--json"],
        ),
        (
            ("search", "a", "b", "--event", "refused", "--since", "1h", "--tenant", "--x"),
            ["search", "--event=refused", "--since=1h", "--tenant=--x", "a", "b"],
        ),
        (
            ("verify", "a", "--public-key", "p", "--public-key", "q", "--output", "json"),
            ["verify", "--public-key=p", "--public-key=q", "a", "--json"],
        ),
        (("verify", "a"), None),
        (("search",), None),
    ],
)
def test_arguments_output_and_exit_status_pass_through(
    api: Path, inferctl_child, command: tuple[str, ...], arguments: list[str] | None
) -> None:
    done = inferctl_child("audit", *command, PYTHONPATH=str(api.parent))

    if arguments is None:
        assert (done.code, done.out) == (2, "")
    else:
        assert (done.code, json.loads(done.out)) == (5, arguments)


def test_an_installation_without_the_server(api: Path, inferctl_child) -> None:
    (api / "governance" / "audit" / "__main__.py").unlink()
    (api / "governance" / "audit" / "__init__.py").unlink()
    (api / "governance" / "audit").rmdir()

    done = inferctl_child("audit", "tail", "a.jsonl", PYTHONPATH=str(api.parent))

    assert (done.code, done.out) == (1, "")
    assert "pip install inferflux" in done.err
