from __future__ import annotations

import pytest
from bench.tokens import main


def test_every_algorithm_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--tokens", "3"])

    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["| RS256", "| ES256", "| EdDSA"]
    assert all(float(row[1]) > 0 for row in rows)
