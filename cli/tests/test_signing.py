from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (("keygen", "--out", "k"), ["keygen", "--out=k", "--curve=p256"]),
        (
            ("keygen", "--out", "-k", "--curve", "p384", "--json"),
            ["keygen", "--out=-k", "--curve=p384", "--json"],
        ),
        (("keygen", "--out", "k", "--curve", "rsa"), None),
        (("sign", "m.gguf", "--key", "k"), ["sign", "--key=k", "m.gguf"]),
        (
            (
                "sign",
                "--key",
                "k",
                "--signature",
                "s",
                "--ignore",
                "a",
                "--ignore",
                "-b",
                "--",
                "-m",
            ),
            ["sign", "--key=k", "--signature=s", "--ignore=a", "--ignore=-b", "./-m"],
        ),
        (("sign", "m.gguf"), None),
        (
            ("verify", "m", "--public-key", "a", "--public-key", "b", "--signature", "s", "--json"),
            ["verify", "--public-key=a", "--public-key=b", "--signature=s", "m", "--json"],
        ),
        (("verify", "m"), None),
    ],
)
def test_models_are_signed_by_the_servers_own_module(
    tmp_path: Path, inferctl_child, command: tuple[str, ...], arguments: list[str] | None
) -> None:
    package = tmp_path / "inferflux_core"
    (package / "model_signing").mkdir(parents=True)
    for folder in (package, package / "model_signing"):
        (folder / "__init__.py").touch()
    script = "import json, sys\nprint(json.dumps(sys.argv[1:]))\nsys.exit(1)\n"
    (package / "model_signing" / "__main__.py").write_text(script)

    done = inferctl_child("models", *command, PYTHONPATH=str(tmp_path))

    if arguments is None:
        assert (done.code, done.out) == (2, "")
    else:
        assert (done.code, json.loads(done.out)) == (1, arguments)
