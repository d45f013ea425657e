"""npm's `oidc-provider`, running, and somebody who logs in there with a browser."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

import httpx2

FOLDER = Path(__file__).parents[1] / "identity_provider"
INTROSPECTION = {"client_id": "server", "client_secret": "server-secret"}


@dataclass(frozen=True)
class IdentityProvider:
    """Where it is."""

    url: str

    def token(self, kind: str, scope: str = "generate") -> str:
        """An access token of the client `robot`: signed with RS256, ES256 or EdDSA, or `opaque`."""
        form = {"grant_type": "client_credentials", "scope": scope, "resource": resource(kind)}
        answer = self._post("/token", form, "robot")
        return str(answer.json()["access_token"])

    def revoke(self, token: str) -> None:
        self._post("/token/revocation", {"token": token}, "robot")

    def _post(self, path: str, form: dict[str, str], client: str) -> httpx2.Response:
        answer = httpx2.post(self.url + path, data=form, auth=(client, f"{client}-secret"))
        assert answer.status_code == 200, answer.text
        return answer


def resource(kind: str) -> str:
    """The service that gets tokens of this kind."""
    return f"https://inferflux.example/{kind}"


@contextmanager
def running_identity_provider() -> Iterator[IdentityProvider]:
    assert (FOLDER / "node_modules").exists(), "run ./scripts/test.sh, which installs it"
    command = ["node", FOLDER / "provider.mjs"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().strip()
        assert url, process.stderr.read()
        yield IdentityProvider(url)
        # Leaving the block closes its standard input, by which it ends.


def confirm_in_browser(url: str, user: str) -> str:
    """Follow the pages of a login, sending every form as the user would; returns the last page."""
    with httpx2.Client(follow_redirects=True) as browser:
        page = browser.get(url)
        for _ in range(8):
            form = re.search(r'<form[^>]*action="([^"]+)"', page.text)
            if form is None:
                return page.text
            fields = dict(
                re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text)
            )
            if 'name="login"' in page.text:
                fields |= {"login": user, "password": "any"}
            answers = {name: unescape(value) for name, value in fields.items()}
            page = browser.post(urljoin(str(page.url), unescape(form[1])), data=answers)
        raise AssertionError(page.text)
