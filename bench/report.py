"""Numbers from answers, and tables from numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec

from bench.client import Answer

__all__ = ["Level", "ServerRun", "comparison", "level_table", "median_level", "summarize"]


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """One level of concurrency. Times are in milliseconds unless they say otherwise.

    Attributes:
        concurrency: simulated users.
        requests: answers, failed ones among them.
        errors: failed answers; they count in no other number.
        first_error: why the first one failed, or "".
        short: answers that did not have exactly the tokens asked for.
        seconds: from the first request to the end of the last answer.
        output_tokens: of all answers.
        prompt_tokens: mean per request, as the server counts them.
        tokens_per_second: output tokens over `seconds`.
        ttft_p50: time to the first text.
        itl_p50: time between two events with text.
        tpot_p50: mean time of a request's tokens after the first.
        tokens_per_event: 1.0 if every token was sent as it came.
        client_cpu: share of one core that this client took.
    """

    concurrency: int
    requests: int
    errors: int
    first_error: str
    short: int
    seconds: float
    output_tokens: int
    prompt_tokens: float
    tokens_per_second: float
    ttft_p50: float
    ttft_p99: float
    itl_p50: float
    itl_p99: float
    tpot_p50: float
    tokens_per_event: float
    client_cpu: float


class ServerRun(msgspec.Struct, frozen=True, kw_only=True):
    """One life of a server: start, all levels, stop.

    Attributes:
        ready_seconds: from start to the first answer.
        rss_mib: highest resident memory of each process, summed.
        pss_mib: highest sum with shared pages counted once, or None where the kernel hides it.
    """

    server: str
    ready_seconds: float
    rss_mib: float
    pss_mib: float | None
    levels: list[Level]


def percentile(values: Sequence[float], share: float) -> float:
    """Linear interpolation between the closest ranks; NaN without values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def summarize(users: int, answers: Sequence[Answer], wanted_tokens: int, cpu: float) -> Level:
    """Reduce the answers of a level.

    Args:
        users: simulated users.
        answers: all of them.
        wanted_tokens: that each request asked for.
        cpu: processor seconds this process used.
    """
    good = [answer for answer in answers if not answer.error]
    errors = [answer.error for answer in answers if answer.error]
    seconds = max(a.finished for a in answers) - min(a.started for a in answers)
    tokens = sum(answer.completion_tokens for answer in good)
    spoken = [answer for answer in good if answer.stamps]
    ttft = [1e3 * (answer.stamps[0] - answer.started) for answer in spoken]
    itl = [
        1e3 * (after - before)
        for answer in spoken
        for before, after in zip(answer.stamps, answer.stamps[1:], strict=False)
    ]
    tpot = [
        1e3 * (answer.stamps[-1] - answer.stamps[0]) / (answer.completion_tokens - 1)
        for answer in spoken
        if answer.completion_tokens > 1
    ]
    prompts = [answer.prompt_tokens for answer in good if answer.prompt_tokens is not None]
    events = sum(answer.events for answer in good)
    return Level(
        concurrency=users,
        requests=len(answers),
        errors=len(errors),
        first_error=errors[0] if errors else "",
        short=sum(answer.completion_tokens != wanted_tokens for answer in good),
        seconds=seconds,
        output_tokens=tokens,
        prompt_tokens=statistics.fmean(prompts) if prompts else math.nan,
        tokens_per_second=tokens / seconds,
        ttft_p50=percentile(ttft, 0.5),
        ttft_p99=percentile(ttft, 0.99),
        itl_p50=percentile(itl, 0.5),
        itl_p99=percentile(itl, 0.99),
        tpot_p50=percentile(tpot, 0.5),
        tokens_per_event=tokens / events if events else math.nan,
        client_cpu=cpu / seconds,
    )


def median_level(runs: Sequence[Level]) -> Level:
    """The median of each number over repeated runs of one level; errors are summed."""
    numbers = {
        name: statistics.median(getattr(run, name) for run in runs)
        for name, value in msgspec.structs.asdict(runs[0]).items()
        if isinstance(value, float)
    }
    return msgspec.structs.replace(
        runs[0],
        **numbers,
        output_tokens=round(statistics.median(run.output_tokens for run in runs)),
        requests=sum(run.requests for run in runs),
        errors=sum(run.errors for run in runs),
        short=sum(run.short for run in runs),
        first_error=next((run.first_error for run in runs if run.first_error), ""),
    )


def level_table(name: str, levels: Sequence[Level]) -> str:
    """A line per level of concurrency."""
    rows = [
        f"{name}\n{'users':>5} {'tok/s':>9} {'TTFT p50':>9} {'p99':>9} {'ITL p50':>8} {'p99':>8} "
        f"{'TPOT':>7} {'prompt':>7} {'tok/event':>9} {'requests':>8} {'errors':>6} {'short':>5} "
        f"{'client':>6}"
    ]
    rows += [
        f"{level.concurrency:>5} {level.tokens_per_second:>9.1f} {level.ttft_p50:>9.1f} "
        f"{level.ttft_p99:>9.1f} {level.itl_p50:>8.2f} {level.itl_p99:>8.2f} "
        f"{level.tpot_p50:>7.2f} {level.prompt_tokens:>7.1f} {level.tokens_per_event:>9.2f} "
        f"{level.requests:>8} {level.errors:>6} {level.short:>5} {level.client_cpu:>6.1%}"
        for level in levels
    ]
    rows += [
        f"  first error at {level.concurrency} users: {level.first_error}"
        for level in levels
        if level.first_error
    ]
    return "\n".join(rows)


_METRICS = {
    "tok/s": "tokens_per_second",
    "TTFT p50 ms": "ttft_p50",
    "TTFT p99 ms": "ttft_p99",
    "ITL p50 ms": "itl_p50",
    "ITL p99 ms": "itl_p99",
    "TPOT p50 ms": "tpot_p50",
}


def comparison(first: Sequence[ServerRun], second: Sequence[ServerRun]) -> str:
    """Compare two servers, run by run.

    The ratio is that of a pair of neighbouring runs, which a machine that drifts disturbs least: the
    median of the pairs, and their range.
    """
    names = first[0].server, second[0].server
    rows = [
        f"{'':>5} {'':<12} {names[0]:>12} {names[1]:>12}  {names[0]}/{names[1]}",
        f"{'users':>5} {'':<12} {'median':>12} {'median':>12}  ratio [lowest-highest]",
    ]
    for at, level in enumerate(first[0].levels):
        for title, attribute in _METRICS.items():
            pairs = [
                (getattr(a.levels[at], attribute), getattr(b.levels[at], attribute))
                for a, b in zip(first, second, strict=True)
            ]
            rows.append(_row(str(level.concurrency), title, pairs))
    for title, attribute in (
        ("peak RSS MiB", "rss_mib"),
        ("peak PSS MiB", "pss_mib"),
        ("ready s", "ready_seconds"),
    ):
        values = [
            (getattr(a, attribute), getattr(b, attribute))
            for a, b in zip(first, second, strict=True)
        ]
        if all(value is not None for pair in values for value in pair):
            rows.append(_row("", title, values))
    return "\n".join(rows)


def _row(users: str, title: str, pairs: Sequence[tuple[float, float]]) -> str:
    ratios = [a / b if b else math.nan for a, b in pairs]
    left, right = (statistics.median(side) for side in zip(*pairs, strict=True))
    return (
        f"{users:>5} {title:<12} {left:>12.2f} {right:>12.2f}  {statistics.median(ratios):.3f}"
        f" [{min(ratios):.3f}-{max(ratios):.3f}]"
    )
