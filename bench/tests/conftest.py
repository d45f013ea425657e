from __future__ import annotations

import sys
from pathlib import Path

# The benchmarks are no installed package: they run as `python -m bench.serve` from the root.
sys.path.insert(0, str(Path(__file__).parents[2]))
