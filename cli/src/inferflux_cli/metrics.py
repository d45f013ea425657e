"""The few figures of a Prometheus page that answer "how busy is it?"."""

from __future__ import annotations

import re
from collections import defaultdict

__all__ = ["key_figures"]

# Our own names first, then the names a server shows to dashboards made for vLLM.
_FIGURES = {
    "running": ("inferflux_requests_running", "vllm:num_requests_running"),
    "waiting": ("inferflux_requests_waiting", "vllm:num_requests_waiting"),
    "prompt_tokens": ("inferflux_prompt_tokens_total", "vllm:prompt_tokens_total"),
    "output_tokens": ("inferflux_output_tokens_total", "vllm:generation_tokens_total"),
}
# https://prometheus.io/docs/instrumenting/exposition_formats/ : name, labels, value, time.
_SAMPLE = re.compile(r'([a-zA-Z_:][\w:]*)(?:\{(?:[^"}]|"(?:\\.|[^"\\])*")*\})?\s+(\S+)')


def key_figures(page: str) -> dict[str, float]:
    """Return the known figures of a metrics page, each summed over its labels."""
    sums: defaultdict[str, float] = defaultdict(float)
    for line in page.splitlines():
        if sample := _SAMPLE.match(line):
            sums[sample[1]] += _number(sample[2])
    return {
        label: next(sums[name] for name in names if name in sums)
        for label, names in _FIGURES.items()
        if any(name in sums for name in names)
    }


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
