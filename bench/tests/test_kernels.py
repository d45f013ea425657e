from __future__ import annotations

import pytest
from bench import kernels


def test_every_precision_of_every_instruction_set_is_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usable = kernels.inferflux_kernels_cpu.usable()
    monkeypatch.setattr(kernels, "_LAYERS", 1)
    monkeypatch.setattr(kernels, "_HEAD", (576, 64))

    kernels.main(["--rows", "1,3", "--repeats", "1"])

    head, columns, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("4 million weights")
    assert columns.split()[:2] == ["1", "3"]
    names = [f"{name} {precision}" for name in usable for precision in ("bf16", "f16", "int8")]
    assert [line[:16].strip() for line in lines] == [*names, "torch bf16"]
    assert all(float(number) > 0 for line in lines for number in line[16:34].split())
