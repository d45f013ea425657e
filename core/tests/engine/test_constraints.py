from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import jsonschema
import numpy as np
import pytest
from llguidance import LLParserLimits
from numpy.typing import NDArray

from inferflux_core.backends.byte_tokenizer import BOS_ID, EOS_ID, ByteTokenizer
from inferflux_core.engine.constraints import compiler as compiler_module
from inferflux_core.engine.constraints.compiler import ConstraintCompiler
from inferflux_core.engine.constraints.state import ConstraintState
from inferflux_core.engine.runner import Tokenizer
from inferflux_core.engine.sampling_params import Constraint
from inferflux_core.errors import InvalidRequestError, QueueFullError

WORDS = [
    b'{"', b'": ', b'":', b'", "', b'"}', b' "', b' {', b'name', b' name', b'nam', b'na', b'age',
    b"yes", b"yesterday", b"true", b"alse", b"12", b"00", b"\xc3\xbc", b"\xf0\x9f", b"lo", b" wor",
]  # fmt: skip
CONTROL, ENDS = 256, (257, 258)


class WordTokenizer:
    """Bytes, words, a control token and two that end an answer, one of which is spelt as text.

    With `spaced`, it puts a space before every text, as vocabularies of the SentencePiece kind do.
    """

    bos_text = eos_text = ""
    chat_template = None
    end_of_generation_ids = frozenset(ENDS)

    def __init__(self, *, spaced: bool) -> None:
        self._pieces = [bytes([i]) for i in range(256)] + [b"", b"", b"</s>", *WORDS]
        self._ids = {piece: i for i, piece in enumerate(self._pieces) if piece and i not in ENDS}
        self._spaced = spaced
        self.vocab_size = len(self._pieces)

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        data = (" " + text if self._spaced else text).encode()
        token_ids = []
        while data:
            size = next(n for n in range(9, 0, -1) if data[:n] in self._ids and len(data) >= n)
            token_ids.append(self._ids[data[:size]])
            data = data[size:]
        return token_ids

    def piece(self, token_id: int) -> bytes:
        return self._pieces[token_id]


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "bytes": ByteTokenizer,
    "words": lambda: WordTokenizer(spaced=False),
    "spaced words": lambda: WordTokenizer(spaced=True),
}


@pytest.fixture(autouse=True)
def no_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler_module, "_MAX_DEBT_SECONDS", 1e9)


@cache
def shared_compiler(name: str) -> ConstraintCompiler:
    return ConstraintCompiler(TOKENIZERS[name]())


def start(kind: Any, value: Any, tokenizer: str = "bytes") -> ConstraintState:
    text = value if isinstance(value, str) else json.dumps(value)
    return shared_compiler(tokenizer).start(Constraint(kind=kind, value=text))


def allowed(state: ConstraintState, vocab_size: int = ByteTokenizer.vocab_size) -> list[int]:
    row = np.zeros(vocab_size, np.float32)
    state.mask(row)
    return [int(i) for i in np.flatnonzero(row == 0)]


def spell(token_ids: list[int], tokenizer: str = "bytes") -> bytes:
    known = TOKENIZERS[tokenizer]()
    ends = known.end_of_generation_ids
    return b"".join(known.piece(i) for i in token_ids if i not in ends)


def walk(state: ConstraintState, tokenizer: Tokenizer, rng: random.Random) -> list[int] | None:
    """Tokens drawn blindly from what the masks leave, with some pull towards the end; None if too long."""
    closing = {ord(c) for c in '"}]'} | tokenizer.end_of_generation_ids
    output: list[int] = []
    while len(output) < 300:
        choices = allowed(state, tokenizer.vocab_size)
        assert choices, "a dead end"
        towards_end = [i for i in choices if i in closing]
        chosen = rng.choice(towards_end if towards_end and rng.random() < 0.3 else choices)
        state.accept(chosen)
        output.append(chosen)
        for token_id in state.forced():
            state.accept(token_id)
            output.append(token_id)
        if state.finished:
            return output
    return None


def accept_text(state: ConstraintState, text: str) -> None:
    for byte in text.encode():
        assert state.allows(byte), f"{chr(byte)!r} of {text!r}"
        state.accept(byte)


# ------------------------------------------------------------------- whatever is drawn is valid

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "email": {"type": "string", "format": "email"},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": ["number", "null", "boolean"]},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
            },
            "required": ["value"],
            "additionalProperties": False,
        }
    },
}
SHAPE = {
    "anyOf": [
        {"type": "object", "properties": {"kind": {"const": "circle"}, "r": {"type": "number"}},
         "required": ["kind", "r"], "additionalProperties": False},
        {"type": "array", "prefixItems": [{"enum": ["ä", 1, None]}, {"type": "string"}],
         "minItems": 2, "maxItems": 2, "items": False},
        {"type": "string", "pattern": "^[a-z]{2,5}-[0-9]+$", "maxLength": 12},
    ],
}  # fmt: skip
OPEN = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "additionalProperties": {"type": "integer"},
    "required": ["a"],
    "minProperties": 2,
}
SCHEMAS = {
    "person": PERSON,
    "tree": TREE,
    "shape": SHAPE,
    "open": OPEN,
    "object": {"type": "object"},
}


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("name", SCHEMAS)
def test_walks_through_schemas_are_valid(name: str, tokenizer: str) -> None:
    rng = random.Random(name + tokenizer)
    schema = SCHEMAS[name]
    validator = jsonschema.Draft202012Validator(schema)
    complete = 0
    for _ in range(25):
        output = walk(start("json_schema", schema, tokenizer), TOKENIZERS[tokenizer](), rng)
        if output is not None:
            complete += 1
            validator.validate(json.loads(spell(output, tokenizer)))
    assert complete > 5


ARITHMETIC = """
start: sum
sum: product ("+" product)*
product: atom ("*" atom)*
atom: NUMBER | "(" sum ")"
NUMBER: /[1-9][0-9]{0,2}/
"""
GBNF = """
root ::= answer " because " reason
answer ::= "yes" | "no"
reason ::= [a-z]+ (" " [a-z]+)*
"""
PATTERNS: dict[str, tuple[str, Any, Callable[[str], Any]]] = {
    "date": ("regex", r"[0-9]{4}-(0[1-9]|1[0-2])", re.compile(r"\d{4}-(0[1-9]|1[0-2])").fullmatch),
    "umlauts": ("regex", "^[äöü]+(, name)?$", re.compile("[äöü]+(, name)?").fullmatch),
    "choice": (
        "choice",
        ["yes", "yesterday", "😀", 'a "b"\n'],
        ["yes", "yesterday", "😀", 'a "b"\n'].count,
    ),
    "lark": ("grammar", ARITHMETIC, lambda text: eval(text) > 0),  # noqa: S307 - digits, + * ( )
    "gbnf": ("grammar", GBNF, re.compile("(yes|no) because [a-z]+( [a-z]+)*").fullmatch),
}


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("name", PATTERNS)
def test_walks_through_patterns_match(name: str, tokenizer: str) -> None:
    rng = random.Random(name + tokenizer)
    kind, value, matches = PATTERNS[name]
    complete = 0
    for _ in range(25):
        output = walk(start(kind, value, tokenizer), TOKENIZERS[tokenizer](), rng)
        if output is not None:
            complete += 1
            text = spell(output, tokenizer).decode()
            assert matches(text), text
    assert complete > 5


# --------------------------------------------------------------------------------- the contract


def test_a_complete_object_is_the_end() -> None:
    state = start("json_schema", {"type": "object", "properties": {"a": {"type": "boolean"}},
                                  "required": ["a"], "additionalProperties": False})  # fmt: skip
    accept_text(state, '{"a": true')
    assert not state.finished
    accept_text(state, "}")
    assert state.finished


def test_where_the_output_may_end_it_may_also_go_on() -> None:
    state = start("choice", ["yes", "yesterday"])
    assert EOS_ID not in allowed(state)
    accept_text(state, "yes")
    assert not state.finished
    assert allowed(state) == [ord("t"), EOS_ID]
    state.accept(EOS_ID)
    assert state.finished


def test_every_token_that_ends_an_answer_may_end_it_and_none_is_taken_for_text() -> None:
    size = WordTokenizer(spaced=False).vocab_size
    state = start("regex", "(</s>|a)*", "words")
    assert set(allowed(state, size)) == {ord("<"), ord("a"), *ENDS}
    state = start("regex", r"[\s\S]+", "words")
    assert not {CONTROL, *ENDS} & set(allowed(state, size))


def test_control_tokens_are_never_text() -> None:
    assert BOS_ID not in allowed(start("regex", r"[\s\S]*"))


def test_masks_of_requests_do_not_touch_each_other() -> None:
    one, other = start("choice", ["ab", "cd"]), start("choice", ["ab", "cd"])
    accept_text(one, "a")
    assert allowed(one) == [ord("b")]
    assert allowed(other) == [ord("a"), ord("c")]


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_allows_says_what_the_mask_says(tokenizer: str) -> None:
    rng = random.Random(7)
    size = TOKENIZERS[tokenizer]().vocab_size
    state = start("json_schema", PERSON, tokenizer)
    for _ in range(20):
        choices = allowed(state, size)
        assert [i for i in range(size) if state.allows(i)] == choices
        state.accept(rng.choice(choices))
        if state.finished:
            break


def test_a_mask_keeps_the_logits_of_what_it_leaves() -> None:
    state = start("choice", ["ab", "cd"])
    row: NDArray[np.float32] = np.arange(ByteTokenizer.vocab_size, dtype=np.float32)
    state.mask(row)
    assert row[ord("a")] == ord("a")
    assert row[ord("b")] == -np.inf
    assert row[EOS_ID] == -np.inf


def test_a_token_that_the_mask_refused_is_an_error_of_the_request() -> None:
    state = start("choice", ["ab"])
    with pytest.raises(InvalidRequestError, match="cannot go on") as caught:
        state.accept(ord("x"))
    assert caught.value.param == "structured_outputs"


def test_a_limit_that_is_hit_leaves_the_logits_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = LLParserLimits(max_lexer_states=20, verbose_errors=False)
    monkeypatch.setattr(compiler_module, "LIMITS", limits)
    state = ConstraintCompiler(ByteTokenizer()).start(Constraint(kind="regex", value="(.{1,9}b)+c"))
    row = np.zeros(ByteTokenizer.vocab_size, np.float32)
    state.mask(row)
    assert not row.any()
    with pytest.raises(InvalidRequestError, match="cannot go on"):
        state.accept(ord("a"))


# --------------------------------------------------------------------------------- forced tokens


@pytest.mark.parametrize("tokenizer", ["words", "spaced words"])
def test_forced_tokens_are_those_of_the_models_own_tokenizer(tokenizer: str) -> None:
    """Not `n` or `na`, which the grammar would take too: the model has not seen names spelt that way."""
    state = start("json_schema", PERSON, tokenizer)
    pieces = [TOKENIZERS[tokenizer]().piece(i) for i in state.forced()]
    assert pieces[:2] == [b'{"', b"name"]
    assert b"".join(pieces) in b'{"name": "'
    assert allowed(state, TOKENIZERS[tokenizer]().vocab_size) == state.forced()[:1]


def test_long_runs_come_in_pieces() -> None:
    state = start("regex", "a{100}b?")
    lengths = []
    while run := state.forced():
        lengths.append(len(run))
        for token_id in run:
            state.accept(token_id)
    assert lengths == [32, 32, 32, 4]
    assert allowed(state) == [ord("b"), EOS_ID]


def test_forced_does_not_advance() -> None:
    state = start("choice", ["abc"])
    assert state.forced() == state.forced() == list(b"abc")
    state.accept(ord("a"))
    assert state.forced() == list(b"bc")


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("schema", [PERSON, TREE, SHAPE])
def test_following_forced_tokens_says_the_same_as_going_one_by_one(
    schema: dict[str, Any], tokenizer: str
) -> None:
    """Whatever the logits, and without a mask that knows of forced tokens to help."""
    size = TOKENIZERS[tokenizer]().vocab_size
    logits = np.random.default_rng(5).standard_normal((400, size)).astype(np.float32)

    def generate(*, forced: bool) -> list[int]:
        state, output = start("json_schema", schema, tokenizer), list[int]()
        while not state.finished and len(output) < 400:
            row = logits[len(output)].copy()
            state.mask(row)
            state.accept(int(row.argmax()))
            output.append(int(row.argmax()))
            for token_id in state.forced() if forced else []:
                state.accept(token_id)
                output.append(token_id)
        return output[:400]

    assert generate(forced=True) == generate(forced=False)


# ------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"enum": []}, "no output can satisfy it"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "no output can satisfy it"),
        ({"type": "string", "minLength": 5, "maxLength": 3}, "no output can satisfy it"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "no output can satisfy"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "no output can satisfy it"),
        ({"$ref": "#"}, "no output can satisfy it"),
        (False, "no output can satisfy it"),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties":
            {"n": {"$ref": "#/$defs/n"}}, "required": ["n"]}}}, "does it ever end"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "object", "propertyNames": {"pattern": "a"}}, "propertyNames"),
        ({"not": {"type": "string"}}, "not"),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "use anyOf"),
        ({"type": "string", "format": "weird"}, "weird"),
        ({"type": "array", "uniqueItems": True, "x-guidance": {"lenient": True}}, "uniqueItems"),
        ({"type": "shape"}, "shape"),
        ({"$ref": "https://example.com/schema.json"}, "example.com"),
        ({"$ref": "file:///etc/passwd"}, "passwd"),
        ({"$ref": "#/nowhere"}, "nowhere"),
        (3, "is an object"),
        ("{", "not JSON"),
    ],
)  # fmt: skip
def test_schemas_that_are_refused(schema: object, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"this JSON schema cannot be used: .*{message}"):
        start("json_schema", schema)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("regex", "[", "unclosed"),
        ("regex", "(?=a)b", "look-around"),
        ("regex", r"[^\s\S]", "no output can satisfy it"),
        ("choice", [], "at least one"),
        ("choice", [1], "list of strings"),
        ("choice", "x", "not JSON"),
        ("grammar", "start: nothing", "nothing"),
        ("grammar", "start: start", "no output can satisfy it"),
        ("grammar", "not a grammar", "neither Lark nor GBNF"),
        ("grammar", 'root ::= "a', "neither Lark nor GBNF"),
    ],
)
def test_patterns_that_are_refused(kind: str, value: object, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"this {kind} cannot be used: .*{message}"):
        start(kind, value)


NESTED = '{"type":"array","items":' * 5000 + "{}" + "}" * 5000
DOUBLING = "start: A0\n" + "\n".join(f"A{i}: A{i + 1} A{i + 1}" for i in range(40)) + '\nA40: "x"'
BOMBS: dict[str, tuple[str, object]] = {
    "nested": ("json_schema", NESTED),
    "intersections": (
        "json_schema",
        {"type": "string", "allOf": [{"pattern": f".*{c}.*"} for c in "abcdefghijklmnopqrst"]},
    ),
    "a huge automaton": ("json_schema", {"type": "integer", "multipleOf": 1000003}),
    "many optional": (
        "json_schema",
        {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(20_000)}},
    ),
    "many values": ("json_schema", {"enum": [f"v{i}" for i in range(200_000)]}),
    "deep": ("regex", "(" * 10_000 + "a" + ")" * 10_000),
    "long": ("regex", "a{1000000}"),
    "doubling": ("grammar", DOUBLING),
    "parentheses": ("grammar", "start: " + "(" * 100_000 + '"a"' + ")" * 100_000),
    "choices": ("choice", [f"choice number {i}" for i in range(200_000)]),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_time(name: str) -> None:
    kind, value = BOMBS[name]
    began = time.monotonic()
    with pytest.raises(InvalidRequestError, match="cannot be used"):
        start(kind, value)
    assert time.monotonic() - began < 4  # 0.6 seconds, on a machine that has nothing else to do


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("regex", "(a{1,1000}){1,1000}"),
        ("regex", "(x+x+)+y"),
        ("regex", "(.*a.{200}b)+"),
        ("json_schema", {"type": "array", "items": {"type": "string"}, "minItems": 1_000_000}),
        ("choice", [f"choice number {i}" for i in range(5000)]),
        ("grammar", "start: (x | y)*\nx: x y | \"a\"?\ny: y x | x | \"a\"?"),
    ],
)  # fmt: skip
def test_what_would_explode_elsewhere_costs_little_per_token(kind: str, value: object) -> None:
    state = start(kind, value)
    rng = random.Random(1)
    began, steps = time.monotonic(), 0
    while steps < 30 and not state.finished:
        state.accept(rng.choice(allowed(state)))
        steps += 1
    assert time.monotonic() - began < 3


# ------------------------------------------------------------------------------ cache and budget


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> ConstraintCompiler:
    """One whose trials are counted in `compiled`."""
    compiler = ConstraintCompiler(ByteTokenizer())
    trial, compiled = compiler._trial.compile, []

    def count(kind: str, value: str, tool_format: str) -> str:
        compiled.append(value)
        return trial(kind, value, tool_format)

    monkeypatch.setattr(compiler._trial, "compile", count)
    monkeypatch.setattr(compiler, "compiled", compiled, raising=False)
    return compiler


BOMB = Constraint(kind="json_schema", value=json.dumps(BOMBS["intersections"][1]))


def test_what_was_compiled_or_refused_is_remembered(compiler: ConstraintCompiler) -> None:
    for _ in range(2):
        compiler.start(Constraint(kind="regex", value="a+"))
        with pytest.raises(InvalidRequestError):
            compiler.start(Constraint(kind="regex", value="["))
    assert compiler.compiled == ["a+", "["]  # type: ignore[attr-defined]


def test_an_error_names_the_field_of_this_request(compiler: ConstraintCompiler) -> None:
    for param in ("guided_regex", "structured_outputs"):
        with pytest.raises(InvalidRequestError) as caught:
            compiler.start(Constraint(kind="regex", value="[", param=param))
        assert caught.value.param == param


def test_the_least_recently_used_is_forgotten(
    compiler: ConstraintCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler_module, "_CACHE_ENTRIES", 2)
    for value in ("a", "b", "a", "c", "a", "b"):
        compiler.start(Constraint(kind="regex", value=value))
    assert compiler.compiled == ["a", "b", "c", "b"]  # type: ignore[attr-defined]


def test_what_took_long_to_compile_makes_room_for_others(
    compiler: ConstraintCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler_module, "_CACHE_SECONDS", 0.0)
    for value in ("a", "a", "b", "a"):
        compiler.start(Constraint(kind="regex", value=value))
    assert compiler.compiled == ["a", "b", "a"]  # type: ignore[attr-defined]


def test_after_a_bomb_the_next_constraint_compiles(compiler: ConstraintCompiler) -> None:
    with pytest.raises(InvalidRequestError, match="too complex"):
        compiler.start(BOMB)
    assert compiler.start(Constraint(kind="choice", value='["ab"]')).forced() == list(b"ab")


def test_bombs_use_up_their_time_and_known_constraints_go_on(
    compiler: ConstraintCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Constraint(kind="regex", value="a+")
    compiler.start(known)
    monkeypatch.setattr(compiler_module, "_MAX_DEBT_SECONDS", 0.5)
    with pytest.raises(InvalidRequestError, match="too complex"):
        compiler.start(BOMB)
    with pytest.raises(QueueFullError):
        compiler.start(Constraint(kind="regex", value="b+"))
    compiler.start(known)
    monkeypatch.setattr(compiler_module, "_REPAID_PER_SECOND", 1e6)
    compiler.start(Constraint(kind="regex", value="b+"))
