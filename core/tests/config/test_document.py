from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferflux_core.config.document import Document, parse
from inferflux_core.errors import ConfigError


def at_line(line: int) -> str:
    return f"f.yaml:{line}"


def value_of(scalar: str) -> object:
    return parse(f"key: {scalar}\n", at_line).value["key"]


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("-5", -5),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("1:30.5", "1:30.5"),
        ("1e3", 1000.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("6.", 6.0),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("2026-11-22", "2026-11-22"),
        ("null", None),
        ("~", None),
        ("", None),
        ('""', ""),
        ('"10"', "10"),
        ("'null'", "null"),
        ("=", "="),
        ("٣", "٣"),
        ("|\n  true\n", "true\n"),
    ],
)
def test_a_scalar_means_what_yaml_1_2_says(scalar: str, value: object) -> None:
    found = value_of(scalar)

    assert found == value
    assert type(found) is type(value)


def test_keys_are_text() -> None:
    assert parse("no: 1\n10: 2\n<<: {a: 1}\n", at_line).value == {"no": 1, "10": 2, "<<": {"a": 1}}


def test_every_value_has_a_line() -> None:
    text = "# comment\nserver:\n  host: x\n\nmodels:\n  - path: a\n  -\n    path: >\n      b\n"

    lines = parse(text, at_line).lines

    assert lines == {
        ("server",): 2,
        ("server", "host"): 3,
        ("models",): 5,
        ("models", 0): 6,
        ("models", 0, "path"): 6,
        ("models", 1): 8,
        ("models", 1, "path"): 8,
    }


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "null\n"])
def test_an_empty_document_has_no_value(text: str) -> None:
    assert parse(text, at_line).value is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: a: set twice, first in line 1"),
        ("s:\n  - {k: 1,\n     k: 2}\n", "f.yaml:3: s[0].k: set twice, first in line 2"),
        ("a: &x 1\nb: *x\n", "f.yaml:1: anchors and aliases are not supported"),
        ("a: 1\nb: *hunter2\n", "f.yaml:2: anchors and aliases are not supported"),
        ("a: !!python/name:os.system x\n", "f.yaml:1: tags are not supported"),
        ("a: !hunter2\n", "f.yaml:1: tags are not supported"),
        ('a: !!int "5"\n', "f.yaml:1: tags are not supported"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: there is more than one document"),
        ("a: 1\n[x, y]: 2\n", "f.yaml:2: a key must be a word"),
        ("? {a: 1}\n: 2\n", "f.yaml:1: a key must be a word"),
        ("a: [1,\nb: 2\n", "f.yaml:3: not valid YAML: "),
        ("a: 1\n\tb: 2\n", "f.yaml:2: not valid YAML: "),
        ("a: 1\nb: \x00\n", "f.yaml:2: not valid YAML: a character is not allowed"),
        ("a: \udcff\n", "f.yaml:1: not valid YAML: a character is not allowed"),
        ("a:\n  b: 1e999\n", "f.yaml:2: a.b: the number is too large"),
        (f"a: {'9' * 5000}\n", "f.yaml:1: a: the number is too large"),
        (f"a: {'[' * 40}{']' * 40}\n", "f.yaml:1: nested more than 32 levels deep"),
    ],
)
def test_what_the_dialect_lacks_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, at_line)

    assert caught.value.message.startswith(message)
    assert "hunter2" not in str(caught.value)


def test_deep_nesting_cannot_exhaust_the_stack() -> None:
    with pytest.raises(ConfigError, match="nested"):
        parse("[" * 500_000, at_line)


def test_aliases_cannot_multiply() -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in ["ab", "bc", "cd"])

    with pytest.raises(ConfigError, match="aliases"):
        parse(bomb, at_line)


@given(st.text(alphabet=st.sampled_from("ab:- \n\t[]{},&*!|>'\"#%?~.0159exo_+\x00é"), max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    outcome: Document | str
    try:
        outcome = parse(text, at_line)
    except ConfigError as error:
        outcome = error.message

    assert isinstance(outcome, Document) or outcome.startswith("f.yaml:")
