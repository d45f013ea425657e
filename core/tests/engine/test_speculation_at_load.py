"""What the configuration of speculation, which all models of a server share, means for each of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from inferflux_core.backends.byte_tokenizer import ByteTokenizer
from inferflux_core.config.schema import (
    ModelConfig,
    PluginsConfig,
    RuntimeConfig,
    SpeculativeDecodingConfig,
)
from inferflux_core.engine import assembly
from inferflux_core.engine.protocol import LoadModel
from inferflux_core.errors import StartupError
from inferflux_core.testing import DeterministicRunner, make_request

DRAFT = "draft.gguf"


class Closable(DeterministicRunner):
    closed = False

    def close(self) -> None:
        self.closed = True


class Swapped(ByteTokenizer):
    def piece(self, token_id: int) -> bytes:
        return super().piece(token_id ^ 1) if token_id < 256 else b""


@pytest.fixture
def draft_file(tmp_path: Path) -> str:
    path = tmp_path / DRAFT
    path.write_bytes(b"GGUF")
    return str(path)


def num_drafted(
    monkeypatch: pytest.MonkeyPatch,
    model: DeterministicRunner,
    draft_model: DeterministicRunner | None = None,
    draft_file: str | None = None,
) -> int:
    """Assemble an engine, let it write a text that repeats itself in nothing, and count drafts."""

    def load(plugins: object, command: LoadModel) -> DeterministicRunner:
        if command.model.name == "model":
            return model
        assert draft_model is not None
        return draft_model

    monkeypatch.setattr(assembly, "_load", load)
    drafting = SpeculativeDecodingConfig(enabled=True, draft_model=draft_file)
    command = LoadModel(
        model=ModelConfig(name="model"),
        backend="stub",
        runtime=RuntimeConfig(speculative_decoding=drafting),
        plugins=PluginsConfig(),
    )
    engine = assembly.assemble(command).engine
    engine.add_request(make_request(max_tokens=20))
    while engine.has_unfinished_requests:
        list(engine.step())
    return engine.stats().num_drafted


def test_a_model_that_only_embeds_has_no_speculation(
    monkeypatch: pytest.MonkeyPatch, draft_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = DeterministicRunner(max_draft_tokens=0)
    model.capabilities = replace(model.capabilities, generates=False)
    assert num_drafted(monkeypatch, model, None, draft_file) == 0
    assert not caplog.records


def test_a_model_that_cannot_verify_drafts_is_served_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert num_drafted(monkeypatch, DeterministicRunner(max_draft_tokens=0)) == 0
    assert "model is served without speculation: backend 'stub' cannot verify" in caplog.text


def test_a_draft_model_that_fits_is_used(monkeypatch: pytest.MonkeyPatch, draft_file: str) -> None:
    twin = DeterministicRunner()
    assert num_drafted(monkeypatch, DeterministicRunner(), twin, draft_file) > 0
    assert twin.num_computed_tokens > 0


def test_a_draft_model_of_another_vocabulary_is_left_out(
    monkeypatch: pytest.MonkeyPatch, draft_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = Closable()
    other.tokenizer = Swapped()
    num_drafted(monkeypatch, DeterministicRunner(), other, draft_file)
    assert other.closed
    assert other.num_computed_tokens == 0
    assert "has another vocabulary: token 0 is b'\\x01' to the draft model" in caplog.text


def test_a_draft_model_that_fits_no_model_is_refused(
    monkeypatch: pytest.MonkeyPatch, draft_file: str
) -> None:
    stuck = Closable(max_draft_tokens=0)
    with pytest.raises(StartupError, match="cannot correct the drafts"):
        num_drafted(monkeypatch, DeterministicRunner(), stuck, draft_file)
    assert stuck.closed
