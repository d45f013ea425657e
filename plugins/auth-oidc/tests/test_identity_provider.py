"""A real identity provider in an environment of its own, which is built on the first run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferflux_auth_oidc.config import OIDCConfig
from inferflux_auth_oidc.provider import OIDCProvider
from inferflux_core.errors import AuthenticationError

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

REQUIREMENTS = ["canaille==0.3.6", "pytest-iam==0.3.0"]
SESSION = Path(__file__).with_name("canaille_session.py")


@pytest.fixture(scope="module")
def python(request: pytest.FixtureRequest) -> Path:
    """The interpreter of the provider's environment."""
    assert request.config.cache is not None
    folder = request.config.cache.mkdir("-".join(REQUIREMENTS).replace("==", "-"))
    interpreter, complete = folder / "venv" / "bin" / "python", folder / "complete"
    if not complete.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder / "venv"], check=True)
        install = [interpreter, "-m", "pip", "install", "--quiet", *REQUIREMENTS]
        subprocess.run(install, check=True, capture_output=True)
        complete.touch()
    return interpreter


@pytest.fixture(scope="module")
def session(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("canaille")
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [python, "-m", "pytest", "-s", "--noconftest", "-c", folder / "pytest.ini", SESSION]
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("{"):
                yield json.loads(line)
                break
        else:
            pytest.fail("".join(lines))
        # Leaving the block closes its standard input, and with it the provider.


async def test_a_token_of_a_real_provider(session: dict[str, str]) -> None:
    config = OIDCConfig(
        issuer=session["issuer"],
        audience="inferflux",
        algorithms=["RS512"],
        scope_claim="groups",
    )
    provider = OIDCProvider(config)
    await provider.start()
    try:
        principal = await provider.authenticate(session["token"])
        assert principal is not None
        assert (principal.subject, principal.scopes) == ("ada", {"generate"})
        header, claims, signature = session["token"].split(".")
        with pytest.raises(AuthenticationError, match="signature"):
            await provider.authenticate(f"{header}.{claims}.{signature[::-1]}")
    finally:
        await provider.stop()


async def test_a_token_for_another_service(session: dict[str, str]) -> None:
    config = OIDCConfig(issuer=session["issuer"], audience="other", algorithms=["RS512"])
    provider = OIDCProvider(config)
    await provider.start()
    try:
        with pytest.raises(AuthenticationError, match="another service"):
            await provider.authenticate(session["token"])
    finally:
        await provider.stop()
