from __future__ import annotations

from pathlib import Path

import pytest

from inferflux_core.config import load_config
from inferflux_core.errors import ConfigError


def key_of(reference: str, env: dict[str, str]) -> str:
    flag = f'auth.api_keys=[{{key: "{reference}", scopes: [read]}}]'
    return load_config(None, env, [flag]).auth.api_keys[0].key


def test_a_variable_is_read() -> None:
    assert key_of("${env:KEY}", {"KEY": "hunter2"}) == "hunter2"


@pytest.mark.parametrize(
    ("content", "value"), [("hunter2\n", "hunter2"), ("hunter2\r\n", "hunter2"), ("a\nb\n", "a\nb")]
)
def test_a_file_is_read_without_its_last_line_end(tmp_path: Path, content: str, value: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(content.encode())

    assert key_of(f"${{file:{path}}}", {}) == value


def test_references_may_be_part_of_a_value() -> None:
    assert key_of("${env:A}-${env:B}", {"A": "x", "B": "y"}) == "x-y"


def test_what_a_reference_yields_is_not_read_again() -> None:
    assert key_of("${env:A}", {"A": "${env:B}", "B": "y"}) == "${env:B}"


def test_plugin_options_may_hold_references() -> None:
    flags = ["auth.providers=ldap", "auth.options={ldap: {bind: [{password: '${env:P}'}]}}"]

    config = load_config(None, {"P": "hunter2"}, flags)

    assert config.auth.options == {"ldap": {"bind": [{"password": "hunter2"}]}}


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("${env:NOT_SET}", "environment variable NOT_SET is not set or empty"),
        ("${env:EMPTY}", "environment variable EMPTY is not set or empty"),
        ("${file:/no/such/file}", "file /no/such/file cannot be read: No such file or directory"),
        ("${file:/}", "file / cannot be read: Is a directory"),
        ("${file:/dev/null}", "file /dev/null is not set or empty"),
        ("${file:/dev/zero}", "file /dev/zero is larger than 65536 bytes"),
        ("${file:a\\0b}", "the path of a file cannot hold a null byte"),
        ("${KEY}", "`${` begins no known reference"),
        ("${ENV:KEY}", "`${` begins no known reference"),
        ("${env:}", "`${` begins no known reference"),
        ("${env:KEY", "`${` begins no known reference"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(reference: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        key_of(reference, {"KEY": "hunter2", "EMPTY": ""})

    assert caught.value.message == f"flag -o auth.api_keys: auth.api_keys[0].key: {message}"


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        key_of(f"${{file:{path}}}", {})


def test_no_message_repeats_a_secret() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, {"S": "hunter2"}, ["logging.level=${env:S}"])

    assert "hunter2" not in str(caught.value)
    assert "${env:S}" in str(caught.value)
