"""Models read in place, from where other programs have put them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.stores import COMMIT, hugging_face, lm_studio, ollama

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.reference import default_name, resolve, size_bytes

REPO = "acme/Smol-GGUF"
PARTS = [f"big-0000{n}-of-00003.gguf" for n in (1, 2, 3)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, with nobody's settings."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def cache(home: Path) -> Path:
    return home / ".cache" / "huggingface" / "hub"


@pytest.fixture
def weights(home: Path) -> Path:
    file = home / "weights"
    file.write_bytes(b"GGUF")
    return file


def refused(reference: str) -> ModelLoadError:
    with pytest.raises(ModelLoadError) as caught:
        resolve(reference)
    assert caught.value.hint, "every refusal says what to do next"
    return caught.value


def test_the_only_file_of_a_repository(cache: Path) -> None:
    store = hugging_face(cache, REPO, "README.md", "smol.Q4_K_M.gguf", "mmproj-smol.gguf")

    found = resolve(f"hf://{REPO}")

    # By its name, not the blob's: llama.cpp finds the parts of a model by their names.
    assert found == store / "snapshots" / COMMIT / "smol.Q4_K_M.gguf"
    assert size_bytes(f"hf://{REPO}") == 4
    assert resolve(f"hf://{REPO}/smol.Q4_K_M.gguf") == found


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"])
def test_the_cache_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    hub = tmp_path / "elsewhere" / ("hub" if variable == "HF_HOME" else "")
    hugging_face(hub, REPO, "smol.gguf")

    assert resolve(f"hf://{REPO}").name == "smol.gguf"


def test_several_files_are_a_choice(cache: Path) -> None:
    hugging_face(cache, REPO, "smol.Q4_0.gguf", "Q8/smol.Q8_0.gguf")

    error = refused(f"hf://{REPO}")

    assert "stands for 2 files" in error.message
    assert error.hint == f"choose one: hf://{REPO}/Q8/smol.Q8_0.gguf, hf://{REPO}/smol.Q4_0.gguf"
    assert resolve(f"hf://{REPO}/Q8/smol.Q8_0.gguf").name == "smol.Q8_0.gguf"
    missing = refused(f"hf://{REPO}/smol.Q2.gguf")
    assert missing.message.endswith("has no smol.Q2.gguf")
    assert missing.hint == error.hint


def test_of_a_split_model_the_first_part(cache: Path) -> None:
    hugging_face(cache, REPO, *PARTS)

    assert resolve(f"hf://{REPO}").name == PARTS[0]
    assert size_bytes(f"hf://{REPO}") == 12


def test_a_part_that_is_missing_is_named(tmp_path: Path) -> None:
    for name in PARTS[:2]:
        (tmp_path / name).write_bytes(b"GGUF")

    with pytest.raises(ModelLoadError, match=re.escape(PARTS[2])):
        size_bytes(str(tmp_path / PARTS[0]))


def test_what_was_not_downloaded_can_be(cache: Path) -> None:
    error = refused(f"hf://{REPO}/smol.gguf")

    assert "does not download models" in error.message
    assert error.hint
    assert error.hint.startswith(f"run: hf download {REPO} smol.gguf")


def test_the_snapshot_is_that_of_main(cache: Path) -> None:
    hugging_face(cache, REPO, "new.gguf")
    hugging_face(cache, REPO, "old.gguf", commit="f" * 40, ref=None)

    assert resolve(f"hf://{REPO}").name == "new.gguf"


def test_without_main_the_only_snapshot_counts(cache: Path) -> None:
    hugging_face(cache, REPO, "tagged.gguf", ref="v1")
    assert resolve(f"hf://{REPO}").name == "tagged.gguf"

    hugging_face(cache, REPO, "other.gguf", commit="f" * 40, ref="v2")
    assert "is not in the cache" in refused(f"hf://{REPO}").message


@pytest.mark.parametrize("ref", ["../../../../secret", "/etc", "", "\xff"])
def test_a_ref_that_leads_elsewhere_is_no_ref(cache: Path, ref: str) -> None:
    store = hugging_face(cache, REPO, "smol.gguf")
    (store / "refs" / "main").write_text(ref, encoding="latin-1")

    error = None if ref == "\xff" else refused(f"hf://{REPO}")

    # A ref that cannot be read at all is as good as none: the only snapshot counts.
    assert error is None or "is not in the cache" in error.message


def test_a_snapshot_may_link_to_its_blobs_alone(cache: Path, weights: Path) -> None:
    store = hugging_face(cache, REPO)
    (store / "snapshots" / COMMIT / "smol.gguf").symlink_to(weights)

    error = refused(f"hf://{REPO}")

    assert "leads out of" in error.message
    assert str(weights) in (error.hint or "")


def test_ollama(home: Path, weights: Path) -> None:
    blob = ollama(home / ".ollama/models", "smol", "135m", weights)

    assert resolve("ollama://smol:135m") == blob
    assert resolve("ollama://library/smol:135m") == blob
    assert resolve("ollama://registry.ollama.ai/library/smol:135m") == blob
    assert "ollama pull smol  " in (refused("ollama://smol").hint or "")


def test_ollama_elsewhere_with_the_tag_that_goes_without_saying(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "store"))
    blob = ollama(tmp_path / "store", "smol", "latest", weights)

    assert resolve("ollama://smol") == blob


@pytest.mark.parametrize("kind", ["image.adapter", "image.model"])
def test_an_ollama_model_of_several_files_is_refused(home: Path, weights: Path, kind: str) -> None:
    ollama(home / ".ollama/models", "odd", "latest", weights, f"application/vnd.ollama.{kind}")

    assert "is not one GGUF file" in refused("ollama://odd").message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"layers": [{}]}',
        json.dumps(
            {
                "layers": [
                    {
                        "mediaType": "application/vnd.ollama.image.model",
                        "digest": "sha256:../../../etc/passwd",
                    }
                ]
            }
        ).encode(),
    ],
)
def test_a_manifest_that_is_none(home: Path, weights: Path, content: bytes) -> None:
    store = home / ".ollama/models"
    ollama(store, "odd", "latest", weights)
    (store / "manifests/registry.ollama.ai/library/odd/latest").write_bytes(content)

    assert "cannot be read" in refused("ollama://odd").message


def test_a_blob_that_leads_elsewhere(home: Path, weights: Path) -> None:
    blob = ollama(home / ".ollama/models", "odd", "latest", weights)
    blob.unlink()
    assert "is not a file" in refused("ollama://odd").message
    blob.symlink_to(weights)
    assert "leads out of" in refused("ollama://odd").message


@pytest.mark.parametrize("folder", [".lmstudio/models", ".cache/lm-studio/models"])
def test_lm_studio(home: Path, folder: str) -> None:
    store = lm_studio(home, REPO, "smol.gguf", "mmproj.gguf", folder=folder)

    assert resolve(f"lmstudio://{REPO}") == store / "smol.gguf"
    assert resolve(f"lmstudio://{REPO}/smol.gguf") == store / "smol.gguf"
    assert "lms get acme/other" in (refused("lmstudio://acme/other").hint or "")


def test_an_lm_studio_folder_without_models(home: Path) -> None:
    lm_studio(home, REPO, "notes.txt")

    assert "holds no GGUF file" in refused(f"lmstudio://{REPO}").message


FOLDER = ("config.json", "model-1.safetensors", "model-2.safetensors", "tokenizer.json")


def test_a_repository_with_safetensors_is_its_folder(cache: Path) -> None:
    store = hugging_face(cache, "acme/smol", *FOLDER, "original/model.safetensors")

    assert resolve("hf://acme/smol") == store / "snapshots" / COMMIT
    assert size_bytes("hf://acme/smol") == 8
    assert default_name("hf://acme/smol") == "smol"


def test_of_a_repository_with_both_the_only_gguf_file(cache: Path) -> None:
    hugging_face(cache, "acme/smol", *FOLDER, "smol.gguf")

    assert resolve("hf://acme/smol").name == "smol.gguf"


def test_a_folder_within_a_repository(home: Path, cache: Path) -> None:
    files = [f"int8/{name}" for name in FOLDER]
    store = hugging_face(cache, "acme/smol", *files)
    published = lm_studio(home, "acme/smol", *FOLDER)

    assert resolve("hf://acme/smol/int8") == store / "snapshots" / COMMIT / "int8"
    assert resolve("lmstudio://acme/smol") == published


def test_a_repository_with_half_a_model_is_refused(cache: Path) -> None:
    hugging_face(cache, "acme/smol", "config.json", "pytorch_model.bin")

    assert "no safetensors" in refused("hf://acme/smol").message


def test_a_folder_whose_files_lead_out_of_the_store_is_refused(cache: Path, weights: Path) -> None:
    store = hugging_face(cache, "acme/smol", *FOLDER)
    snapshot = store / "snapshots" / COMMIT
    below = snapshot / "1_Pooling"
    below.mkdir()
    assert resolve("hf://acme/smol") == snapshot

    for link in (below / "config.json", snapshot / "2_Dense"):
        link.symlink_to(weights if link.suffix else weights.parent)
        assert "leads out of" in refused("hf://acme/smol").message
        link.unlink()
    link = snapshot / "tokenizer.json"
    link.unlink()
    link.symlink_to(weights)
    assert "leads out of" in refused("hf://acme/smol").message


def test_a_folder_by_its_path(home: Path) -> None:
    folder = lm_studio(home, "acme/smol", *FOLDER)

    assert resolve(str(folder)) == folder
    assert size_bytes(str(folder)) == 8
    assert default_name(f"{folder}/") == "smol"


@pytest.mark.parametrize("scheme", ["hf", "lmstudio", "ollama"])
@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "..",
        "../../etc/passwd",
        "acme/..",
        "acme/repo/../../../x.gguf",
        "acme/./x",
        "/etc/passwd",
        "acme//x",
        "acme/a\\b",
        "acme/a\0b",
        "C:/x/y",
    ],
)
def test_names_that_lead_elsewhere_are_refused(scheme: str, name: str) -> None:
    for look in (resolve, default_name):
        with pytest.raises(ModelLoadError) as caught:
            look(f"{scheme}://{name}")
        assert "not" in caught.value.message


@pytest.mark.parametrize(
    "reference", ["hf://repo", "lmstudio://repo", "ollama://a/b/c/d", "ollama://a:b/c"]
)
def test_names_with_too_few_or_too_many_parts(reference: str) -> None:
    assert reference in refused(reference).message


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("models/smol.Q4_1.gguf", "smol.Q4_1"),
        ("models/" + PARTS[0], "big"),
        ("pkg://llm_smol/smol.gguf", "smol"),
        (f"hf://{REPO}", "Smol"),
        (f"hf://{REPO}/Q8/smol.Q8_0.gguf", "smol.Q8_0"),
        (f"lmstudio://{REPO}", "Smol"),
        (f"lmstudio://{REPO}/smol.gguf", "smol"),
        ("ollama://llama3.2:1b", "llama3.2:1b"),
        ("ollama://llama3.2", "llama3.2"),
    ],
)
def test_the_name_that_a_model_gets(reference: str, name: str) -> None:
    assert default_name(reference) == name
