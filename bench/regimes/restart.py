"""A conversation that goes on after the server was started anew."""

from __future__ import annotations

from bench.prompts import text
from bench.regimes.situation import Message, Numbers, Situation, Surroundings, send

__all__ = ["RESTART"]

_PROMPT_TOKENS = 2000


async def _stage(around: Surroundings) -> Numbers:
    """Ask, restart, and ask on."""
    target, words = around.server.spec.target, around.calibration.words
    cold: list[float] = []
    warm: list[float] = []
    for repeat in range(around.size):
        seed = f"restart {around.seed}/{repeat}"
        history: list[Message] = [{"role": "user", "content": text(words(_PROMPT_TOKENS), seed)}]
        answer = await send(target, history, 16, keep_text=True)
        cold.append(answer.stamps[0] - answer.started)
        await around.restart()
        history += [
            {"role": "assistant", "content": answer.text},
            {"role": "user", "content": text(words(20), f"{seed} again")},
        ]
        answer = await send(target, history, 16)
        warm.append(answer.stamps[0] - answer.started)
    return {
        "TTFT cold ms": 1e3 * sorted(cold)[len(cold) // 2],
        "TTFT after a restart ms": 1e3 * sorted(warm)[len(warm) // 2],
        "share of cold": sorted(w / c for w, c in zip(warm, cold, strict=True))[len(cold) // 2],
    }


RESTART = Situation("restart", "a 2,000-token conversation that goes on after a restart", 1, _stage)
