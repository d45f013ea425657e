"""Every kernel beside the same sums in float64."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import inferflux_kernels_cpu
from inferflux_kernels_cpu import BLOCK, Linear, library

REASON = inferflux_kernels_cpu.why_not()
native = pytest.mark.skipif(REASON is not None, reason=str(REASON))

Floats = NDArray[np.float32]
INT8 = 2
GROUP = 32  # inputs that share a scale
SHAPES = [(1, 8, 16), (2, 7, 5), (3, 64, 33), (5, 70, 16), (6, 1, 1), (7, 33, 100), (13, 577, 48)]
SHAPES += [(97, 128, 160), (1, 576, 1537)]


@pytest.fixture(params=inferflux_kernels_cpu.usable())
def instruction_set(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def kernels(instruction_set: str) -> ctypes.CDLL:
    """Of every instruction set that this processor has."""
    return inferflux_kernels_cpu.load(instruction_set)


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(3)


def at(array: NDArray[np.generic] | None) -> int | None:
    return None if array is None else array.ctypes.data


def normal(draw: np.random.Generator, *shape: int) -> Floats:
    return draw.standard_normal(shape).astype(np.float32)


def bf16_words(numbers: Floats) -> tuple[NDArray[np.uint16], Floats]:
    """Cut off, not rounded: what matters is that both sides have the same numbers."""
    words = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    return words, (words.astype(np.uint32) << 16).view(np.float32)


def f16_words(numbers: Floats) -> tuple[NDArray[np.uint16], Floats]:
    halves = numbers.astype(np.float16)
    return halves.view(np.uint16), halves.astype(np.float32)


def linear(
    kernels: ctypes.CDLL,
    precision: int,
    weight: NDArray[np.generic],
    states: Floats,
    bias: Floats | None,
) -> Floats:
    """Pack and multiply; `weight` `[outputs, inputs]` has what the precision is packed from."""
    (outputs, inputs), rows = weight.shape, len(states)
    packed = np.empty(kernels.packed_bytes(precision, inputs, outputs), np.uint8)
    scales = np.empty(-(-outputs // kernels.panel()) * kernels.panel(), np.float32)
    struct = Linear(precision, inputs, outputs, at(packed), at(scales), at(bias))
    kernels.pack(ctypes.addressof(struct), at(weight))
    scratch = np.empty(kernels.scratch_bytes(ctypes.addressof(struct), rows), np.uint8)
    # A frame around the result shows who writes beside it.
    framed = np.full((rows + 2, outputs), 7.0, np.float32)
    out = framed[1:-1]
    kernels.linear(ctypes.addressof(struct), at(states), at(out), at(scratch), rows)
    assert (framed[[0, -1]] == 7.0).all()
    return out


def nearest_bf16(numbers: Floats) -> Floats:
    words = numbers.view(np.uint32)
    return ((words + 0x7FFF + (words >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


@native
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
@pytest.mark.parametrize("precision", [0, 1], ids=["bf16", "f16"])
def test_linear_layers_of_16_bits(
    kernels: ctypes.CDLL,
    instruction_set: str,
    draw: np.random.Generator,
    precision: int,
    rows: int,
    inputs: int,
    outputs: int,
    *,
    biased: bool,
) -> None:
    words, weight = (bf16_words, f16_words)[precision](normal(draw, outputs, inputs))
    states = normal(draw, rows, inputs)
    bias = normal(draw, outputs) if biased else None
    found = linear(kernels, precision, words, states, bias)
    if precision == 0 and instruction_set == "avx512":
        states = nearest_bf16(states)
    expected = states.astype(float) @ weight.astype(float).T + (0 if bias is None else bias)
    assert np.abs(found - expected).max() < 1e-5 * inputs**0.5 * 10


@native
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
def test_linear_layers_of_8_bits(
    kernels: ctypes.CDLL,
    instruction_set: str,
    draw: np.random.Generator,
    rows: int,
    inputs: int,
    outputs: int,
    *,
    biased: bool,
) -> None:
    """Nothing is lost but by rounding, and that to integers."""
    weight, states = normal(draw, outputs, inputs), normal(draw, rows, inputs)
    weight[0] = 0.0
    states[-1, 0] = 300.0  # one large number among small ones, as models have them
    bias = normal(draw, outputs) if biased else None
    found = linear(kernels, INT8, weight, states, bias)
    if instruction_set == "avx512":
        parts = np.split(states, range(GROUP, inputs, GROUP), axis=1)
        taken = np.hstack([integers(part, 127) for part in parts])
    else:
        taken = integers(states, min(2**15 - 1, (2**31 - 1) // (127 * inputs)))
    expected = taken @ integers(weight, 127).T + (0 if bias is None else bias)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5 * np.abs(expected).max())
    assert np.abs(found[:, 0] - (0 if bias is None else bias[0])).max() == 0


def integers(numbers: Floats, most: int) -> NDArray[np.float64]:
    """Rows as multiples of their largest number over `most`."""
    largest = np.abs(numbers).max(axis=1, keepdims=True)
    inverse = np.divide(np.float32(most), largest, out=np.zeros_like(largest), where=largest > 0)
    result: NDArray[np.float64] = np.rint(numbers * inverse).astype(float) * (largest / most)
    return result


@native
@pytest.mark.parametrize("inputs", [2, 1536, 28_672])
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_of_8_bits_never_overflow(kernels: ctypes.CDLL, inputs: int, sign: int) -> None:
    weight = np.full((16, inputs), -1.0, np.float32)
    states = np.full((2, inputs), 5.0 * sign, np.float32)
    found = linear(kernels, INT8, weight, states, None)
    assert found == pytest.approx(-5.0 * sign * inputs, rel=1e-3)


@native
@pytest.mark.parametrize("width", [1, 7, 8, 64, 577])
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_norms(kernels: ctypes.CDLL, draw: np.random.Generator, rows: int, width: int) -> None:
    states, weight = normal(draw, rows, width), normal(draw, width)
    residual, epsilon = normal(draw, rows, width) * 30, 1e-5

    def norm(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        root = np.sqrt((numbers**2).mean(axis=1, keepdims=True) + epsilon)
        result: NDArray[np.float64] = numbers / root * weight
        return result

    out = np.empty_like(states)
    kernels.rms_norm(at(states), at(weight), at(out), rows, width, epsilon)
    assert out == pytest.approx(norm(states.astype(float)), rel=1e-4, abs=1e-5)
    total = residual + states
    kernels.add_rms_norm(at(residual), at(states), at(weight), at(out), rows, width, epsilon)
    assert (residual == total).all()
    assert out == pytest.approx(norm(total.astype(float)), rel=1e-4, abs=1e-5)


@native
@pytest.mark.parametrize(("rows", "number", "head"), [(1, 1, 8), (3, 2, 13), (20, 3, 64)])
def test_norms_of_heads_touch_nothing_else(
    kernels: ctypes.CDLL, draw: np.random.Generator, rows: int, number: int, head: int
) -> None:
    weight, states = normal(draw, head), normal(draw, rows, number + 2, head)
    heads = states[:, 1:-1].astype(float)
    expected = heads / np.sqrt((heads**2).mean(axis=-1, keepdims=True) + 1e-5) * weight
    found = states.copy()
    kernels.head_norm(
        at(found[0, 1:]), (number + 2) * head, at(weight), rows, number, head, ctypes.c_float(1e-5)
    )
    assert found[:, 1:-1] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert (found[:, [0, -1]] == states[:, [0, -1]]).all()


@native
@pytest.mark.parametrize("inner", [1, 8, 13, 96])
@pytest.mark.parametrize("rows", [1, 20])
def test_gates(kernels: ctypes.CDLL, draw: np.random.Generator, rows: int, inner: int) -> None:
    states = normal(draw, rows, 2 * inner) * 8
    states[0, 0], states[-1, inner - 1] = -200.0, 200.0
    gates, through = states[:, :inner].astype(float), states[:, inner:].astype(float)
    cubic = np.sqrt(2 / np.pi) * (gates + 0.044715 * gates**3)
    expected = {
        "silu": gates / (1 + np.exp(-gates)) * through,
        "gelu": gates / 2 * (1 + np.tanh(cubic)) * through,
    }
    for name, wanted in expected.items():
        framed = np.full((rows + 2, inner), 7.0, np.float32)
        getattr(kernels, f"gated_{name}")(at(states), at(framed[1:-1]), rows, inner)
        assert framed[1:-1] == pytest.approx(wanted, rel=1e-5, abs=1e-5)
        assert (framed[[0, -1]] == 7.0).all()


class Sequences:
    """Ragged sequences in blocks that lie anywhere, with other numbers in the cells of nobody."""

    def __init__(
        self,
        draw: np.random.Generator,
        lengths: list[tuple[int, int]],
        heads: int,
        kv: int,
        head: int,
    ) -> None:
        self.counts = [count for count, _ in lengths]
        self.contexts = [context for _, context in lengths]
        self.heads, self.kv, self.head = heads, kv, head
        self.keys = [normal(draw, context, kv, head) for context in self.contexts]
        self.values = [normal(draw, context, kv, head) for context in self.contexts]
        self.queries = normal(draw, sum(self.counts), heads, head)
        widest = max(-(-context // BLOCK) for context in self.contexts)
        order = draw.permutation(widest * len(lengths)).astype(np.int32)
        self.tables = np.ascontiguousarray(order.reshape(len(lengths), widest))
        shape = (order.size, kv)
        self.key_cache = np.full((*shape, head, BLOCK), 999.0, np.float16)
        self.value_cache = np.full((*shape, BLOCK, head), 999.0, np.float16)

    def cell(self, sequence: int, token: int) -> tuple[int, int]:
        return int(self.tables[sequence, token // BLOCK]), token % BLOCK

    def attend(self, kernels: ctypes.CDLL, scale: float, window: int) -> Floats:
        for s, context in enumerate(self.contexts):
            for token in range(context):
                block, offset = self.cell(s, token)
                self.key_cache[block, :, :, offset] = self.keys[s][token]
                self.value_cache[block, :, offset] = self.values[s][token]
        starts = np.concatenate(([0], np.cumsum(self.counts))).astype(np.int32)
        contexts = np.array(self.contexts, np.int32)
        out = np.empty_like(self.queries)
        kernels.attention(
            at(self.queries), self.heads * self.head, at(self.key_cache), at(self.value_cache),
            at(starts), at(contexts), at(self.tables), self.tables.shape[1], at(out),
            len(self.counts), self.heads, self.kv, self.head, scale, window,
        )  # fmt: skip
        return out

    def expected(self, scale: float, window: int) -> NDArray[np.float64]:
        out, row = np.empty(self.queries.shape), 0
        for s, (count, context) in enumerate(zip(self.counts, self.contexts, strict=True)):
            for position in range(context - count, context):
                first = max(0, position - window + 1) if window else 0
                for h in range(self.heads):
                    kv = h // (self.heads // self.kv)
                    keys = self.keys[s][first : position + 1, kv].astype(np.float16).astype(float)
                    values = self.values[s][first : position + 1, kv].astype(np.float16)
                    scores = keys @ self.queries[row, h].astype(float) * scale
                    weights = np.exp(scores - scores.max())
                    out[row, h] = weights @ values.astype(float) / weights.sum()
                row += 1
        return out


@native
@pytest.mark.parametrize("window", [0, 1, 5, 100])
@pytest.mark.parametrize(
    ("heads", "kv", "head"), [(1, 1, 8), (6, 3, 64), (9, 3, 40), (4, 1, 16), (8, 1, 128)]
)
def test_attention(
    kernels: ctypes.CDLL, draw: np.random.Generator, heads: int, kv: int, head: int, window: int
) -> None:
    """Single tokens, prompts, and parts of prompts, around the ends of blocks."""
    lengths = [(1, 1), (1, 64), (5, 5), (1, 65), (70, 130), (3, 200), (64, 64)]
    sequences = Sequences(draw, lengths, heads, kv, head)
    found = sequences.attend(kernels, 0.3, window)
    assert np.abs(found - sequences.expected(0.3, window)).max() < 1e-4


@native
@pytest.mark.parametrize("rotated", [16, 6])
@pytest.mark.parametrize("rows", [1, 11])
def test_positions_and_the_way_into_the_cache(
    kernels: ctypes.CDLL, draw: np.random.Generator, rows: int, rotated: int
) -> None:
    heads, kv, head = 4, 2, 16
    joined = normal(draw, rows, heads + 2 * kv, head)
    before = joined.astype(float)
    table = normal(draw, 50, rotated)
    positions = draw.integers(0, 50, rows)
    cells = draw.permutation(3 * BLOCK)[:rows].astype(np.int64)
    key_cache = np.zeros((3, kv, head, BLOCK), np.float16)
    value_cache = np.zeros((3, kv, BLOCK, head), np.float16)
    stride = joined.strides[0] // 4
    kernels.rotate_and_store(
        at(joined), stride, at(joined[:, heads:]), stride, at(joined[:, heads + kv :]), stride,
        at(table), at(positions), at(cells), at(key_cache), at(value_cache),
        rows, heads, kv, head, rotated,
    )  # fmt: skip
    half = rotated // 2
    angles = table[positions].astype(float)[:, None]
    cosine, sine = angles[..., :half], angles[..., half:]
    turned = before[:, : heads + kv]
    first, second = turned[..., :half].copy(), turned[..., half:rotated].copy()
    turned[..., :half] = first * cosine - second * sine
    turned[..., half:rotated] = second * cosine + first * sine
    assert joined == pytest.approx(before, rel=1e-5, abs=1e-5)
    for row, cell in enumerate(cells):
        block, offset = divmod(int(cell), BLOCK)
        keys, values = joined[row, heads : heads + kv], joined[row, heads + kv :]
        assert (key_cache[block, :, :, offset] == keys.astype(np.float16)).all()
        assert (value_cache[block, :, offset] == values.astype(np.float16)).all()
    assert np.count_nonzero(value_cache.any(axis=(1, 3))) == rows


AVX2 = "fpu avx2 fma f16c"
AVX512 = f"{AVX2} avx512f avx512bw avx512dq avx512vl"


@native
@pytest.mark.parametrize(
    ("flags", "names", "reason"),
    [
        (f"{AVX512} avx512_vnni avx512_bf16", ("avx512", "avx2"), None),
        (f"{AVX512} avx512_vnni", ("avx2",), None),
        (AVX2, ("avx2",), None),
        ("fpu avx2 fma", (), "the processor has no f16c"),
        ("fpu sse2", (), "the processor has no avx2, f16c, fma"),
    ],
)
def test_processors_get_what_they_can_run(
    tmp_path: Path, flags: str, names: tuple[str, ...], reason: str | None
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nflags : {flags}\n")
    assert inferflux_kernels_cpu.usable(cpuinfo) == names
    assert inferflux_kernels_cpu.why_not(cpuinfo) == reason


def test_a_package_without_the_libraries_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "_FOLDER", tmp_path)
    library.load.cache_clear()
    with pytest.raises(RuntimeError, match=r"no C\+\+ compiler|there are no kernels"):
        library.load("avx2")
    library.load.cache_clear()
