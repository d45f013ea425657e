"""The engine's golden test with this runner."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.golden import check_golden
from support.hf_folders import tiny_folder
from support.torch_runners import exact_runner


@pytest.mark.parametrize("seed", range(1, 5))
def test_requests_do_not_see_each_other(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With windows in one of two layers, and with blocks that are shared."""
    folder = tiny_folder(tmp_path / "model", "Gemma3ForCausalLM", dtype="F32", head_dim=16)
    runner, cache = exact_runner(folder, capacity=192, max_rows=64, block_size=16)
    lone, _ = exact_runner(folder, slots=1, capacity=192, max_rows=192)
    shared: list[bool] = []
    share = runner.share

    def noted(slot: int, to: int, length: int) -> bool:
        shared.append(share(slot, to, length))
        return shared[-1]

    monkeypatch.setattr(runner, "share", noted)
    check_golden(runner, lone, seed, cache.check_integrity)
    assert any(shared)
