"""Closed-loop load: so many users, each of whom asks again as soon as the answer is complete."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench import BenchError
from bench.client import Answer, Connection, Target
from bench.prompts import Calibration, Prompts, text
from bench.report import Level, summarize

__all__ = ["Workload", "ask", "calibrate", "run_level", "warm_up"]

_PROBE_WORDS = 40


@dataclass(frozen=True, slots=True)
class Workload:
    """What every user asks for.

    Attributes:
        requests: in all, per level; None for `per_user` times the number of users.
        duration: seconds after which no new request starts, instead of a number of requests.
        timeout: seconds a request may take.
    """

    prompt_tokens: int = 128
    output_tokens: int = 64
    shared_prefix_tokens: int = 0
    temperature: float = 0.0
    ignore_eos: bool = True
    requests: int | None = None
    duration: float | None = None
    timeout: float = 600.0

    per_user = 4

    def body(self, prompt: str, output_tokens: int | None = None) -> dict[str, object]:
        """The request for a prompt, without the model's name."""
        body: dict[str, object] = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": self.output_tokens if output_tokens is None else output_tokens,
            "temperature": self.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return {**body, "ignore_eos": True} if self.ignore_eos else body

    def prompts(self, calibration: Calibration, seed: int) -> Prompts:
        """Prompts of the wanted length."""
        return Prompts(calibration, self.prompt_tokens, self.shared_prefix_tokens, seed)


async def ask(
    target: Target, workload: Workload, prompt: str, *, tokens: int | None = None
) -> Answer:
    """Send one request on its own connection and keep the text of the answer."""
    async with Connection(target, keep_text=True) as connection:
        request = target.request(workload.body(prompt, tokens))
        return await connection.send(request, workload.timeout)


async def calibrate(target: Target, workload: Workload) -> Calibration:
    """Find out how many tokens the model makes of our words.

    Raises:
        BenchError: the server failed, or does not report `usage.prompt_tokens`.
    """
    points = []
    for words in (_PROBE_WORDS, _PROBE_WORDS + workload.prompt_tokens):
        answer = await ask(target, workload, text(words, f"probe {words}"), tokens=1)
        if answer.error or answer.prompt_tokens is None:
            problem = answer.error or "it reports no usage.prompt_tokens in the stream"
            raise BenchError(f"{target.name} cannot be measured: {problem}")
        points.append((words, answer.prompt_tokens))
    return Calibration.fit(points[0], points[1])


async def warm_up(target: Target, workload: Workload, users: int, prompts: Prompts) -> None:
    """Let every user ask once, for a few tokens.

    Raises:
        BenchError: a request failed.
    """

    def request() -> bytes:
        return target.request(workload.body(prompts.next(), min(8, workload.output_tokens)))

    answers = await _drive(target, users, workload.timeout, request, _countdown(users))
    failed = [answer.error for answer in answers if answer.error]
    if failed:
        raise BenchError(f"{target.name} failed while it warmed up: {failed[0]}")


async def run_level(target: Target, workload: Workload, users: int, prompts: Prompts) -> Level:
    """Measure one level of concurrency."""

    def request() -> bytes:
        return target.request(workload.body(prompts.next()))

    if workload.duration is None:
        more = _countdown(max(workload.requests or workload.per_user * users, users))
    else:
        more = _deadline(workload.duration)
    cpu = time.process_time()
    answers = await _drive(target, users, workload.timeout, request, more)
    return summarize(users, answers, workload.output_tokens, time.process_time() - cpu)


async def _drive(
    target: Target,
    users: int,
    timeout: float,  # noqa: ASYNC109 - of one request
    request: Callable[[], bytes],
    more: Callable[[], bool],
) -> list[Answer]:
    answers: list[Answer] = []

    async def user() -> None:
        async with Connection(target) as connection:
            while more():
                answers.append(await connection.send(request(), timeout))

    async with asyncio.TaskGroup() as group:
        for _ in range(users):
            group.create_task(user())
    return answers


def _countdown(count: int) -> Callable[[], bool]:
    numbers = itertools.count()
    return lambda: next(numbers) < count


def _deadline(seconds: float) -> Callable[[], bool]:
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() < end
