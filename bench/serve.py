"""Measure OpenAI-compatible servers: `python -m bench.serve {run,compare,tokens} --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop

from bench import BenchError
from bench.client import Target
from bench.compare import compare, progress
from bench.load import Workload, ask, calibrate, run_level, warm_up
from bench.report import Level, comparison, level_table, median_level
from bench.servers import ServerSpec, load_specs

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns 0, or 1 if a server failed or answers were not what was asked for."""
    options = _parser().parse_args(arguments)
    try:
        ok: bool = uvloop.run(options.action(options))
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0 if ok else 1


async def _run(options: argparse.Namespace) -> bool:
    workload = _workload(options)
    results: dict[str, list[Level]] = {}
    for target in _targets(options):
        prompts = workload.prompts(await calibrate(target, workload), options.seed)
        await warm_up(target, workload, max(options.concurrency), prompts)
        runs: list[list[Level]] = []
        for run in range(options.runs):
            progress(f"{target.name}: run {run + 1}/{options.runs}")
            runs.append(
                [await run_level(target, workload, users, prompts) for users in options.concurrency]
            )
        results[target.name] = [median_level(level) for level in zip(*runs, strict=True)]
    if options.json:
        _print_json(results)
    else:
        print("\n\n".join(level_table(name, levels) for name, levels in results.items()))
    return _sound(workload, [level for levels in results.values() for level in levels])


async def _compare(options: argparse.Namespace) -> bool:
    first, second = _specs(options)
    workload = _workload(options)
    results = await compare(first, second, workload, options.concurrency, options.runs)
    if options.json:
        _print_json({runs[0].server: runs for runs in results})
    else:
        for runs in results:
            levels = [median_level(level) for level in zip(*(r.levels for r in runs), strict=True)]
            print(level_table(runs[0].server, levels), end="\n\n")
        print(comparison(*results))
    return _sound(workload, [level for runs in results for run in runs for level in run.levels])


async def _tokens(options: argparse.Namespace) -> bool:
    """Ask each server for exactly N tokens and show all evidence of how many came."""
    workload = _workload(options)
    good = True
    for target in _targets(options):
        prompts = workload.prompts(await calibrate(target, workload), options.seed)
        for _ in range(options.samples):
            answer = await ask(target, workload, prompts.next())
            good &= not answer.error and answer.completion_tokens == workload.output_tokens
            recount = _recount(options.vocabulary, answer.text)
            print(
                f"{target.name}: asked {workload.output_tokens}, usage {answer.completion_tokens}, "
                f"events {answer.events}, tokenized again {recount}, "
                f"{len(answer.text)} characters, finish_reason {answer.finish_reason}, "
                f"prompt {answer.prompt_tokens}{answer.error and f', error: {answer.error}'}\n"
                f"  {answer.text[:100]!r}"
            )
    return good


def _recount(vocabulary: Path | None, text: str) -> str:
    """Tokens in a text by our own count; a few off is normal, since merges can differ."""
    if vocabulary is None:
        return "-"
    import llama_cpp

    model = llama_cpp.Llama(str(vocabulary), vocab_only=True, verbose=False)
    return str(len(model.tokenize(text.encode(), add_bos=False)))


def _sound(workload: Workload, levels: Sequence[Level]) -> bool:
    return not any(level.errors or (workload.ignore_eos and level.short) for level in levels)


def _print_json(results: object) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n")


def _workload(options: argparse.Namespace) -> Workload:
    return Workload(
        prompt_tokens=options.prompt_tokens,
        output_tokens=options.output_tokens,
        shared_prefix_tokens=options.shared_prefix_tokens,
        temperature=options.temperature,
        ignore_eos=options.ignore_eos,
        requests=options.requests,
        duration=options.duration,
        timeout=options.timeout,
    )


def _targets(options: argparse.Namespace) -> list[Target]:
    targets = []
    for value in options.url:
        name, separator, url = value.partition("=")
        if not separator or "/" in name:
            name = url = value
        targets.append(Target(name, url, options.api_key, options.model))
    return targets


def _specs(options: argparse.Namespace) -> tuple[ServerSpec, ServerSpec]:
    specs = load_specs(options.servers) if options.servers else []
    urls = dict(_named(value) for value in options.server_url)
    for value in options.server:
        name, command = _named(value)
        if name not in urls:
            raise BenchError(f"server {name!r} needs --server-url {name}=http://...")
        specs.append(
            ServerSpec(
                name=name,
                command=command,
                url=urls[name],
                api_key=options.api_key,
                model=options.model,
            )
        )
    if len(specs) != 2 or specs[0].name == specs[1].name:
        names = ", ".join(spec.name for spec in specs) or "none"
        raise BenchError(f"two servers with different names are needed, not: {names}")
    return specs[0], specs[1]


def _named(value: str) -> tuple[str, str]:
    name, separator, rest = value.partition("=")
    if not separator or not name or not rest:
        raise BenchError(f"{value!r} is not of the form NAME=VALUE")
    return name, rest


def concurrency_levels(value: str) -> list[int]:
    levels = [int(part) for part in value.split(",")]
    if min(levels) < 1:
        raise ValueError
    return levels


def positive_number(value: str) -> int:
    number = int(value)
    if number < 1:
        raise ValueError
    return number


def number(value: str) -> int:
    return 0 if value == "0" else positive_number(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.serve", description=__doc__)
    modes = parser.add_subparsers(required=True, metavar="MODE")
    run = modes.add_parser("run", help="measure servers that are running")
    run.set_defaults(action=_run)
    versus = modes.add_parser("compare", help="start two servers in turn and compare them")
    versus.set_defaults(action=_compare)
    tokens = modes.add_parser("tokens", help="confirm that as many tokens come as are asked for")
    tokens.set_defaults(action=_tokens)
    for mode in (run, versus, tokens):
        _add_workload(mode)
    for mode in (run, tokens):
        mode.add_argument("--url", action="append", required=True, metavar="[NAME=]URL")
        mode.add_argument("--seed", type=int, default=0, help="of the prompts (default 0)")
    for mode in (run, versus):
        mode.add_argument(
            "--concurrency", type=concurrency_levels, default=[1, 8, 32], metavar="N,N,..."
        )
        mode.add_argument(
            "--runs", type=positive_number, default=3, help="medians of so many (default 3)"
        )
        mode.add_argument("--json", action="store_true", help="print JSON instead of tables")
    versus.add_argument("--servers", type=Path, metavar="FILE", help="YAML or JSON, see README")
    versus.add_argument("--server", action="append", default=[], metavar="NAME=COMMAND")
    versus.add_argument("--server-url", action="append", default=[], metavar="NAME=URL")
    tokens.add_argument("--samples", type=positive_number, default=2, help="requests (default 2)")
    tokens.add_argument("--vocabulary", type=Path, metavar="GGUF", help="count again with it")
    return parser


def _add_workload(mode: argparse.ArgumentParser) -> None:
    add = mode.add_argument
    add("--api-key", default="", help="sent as a bearer token")
    add("--model", default="default", help="name to ask for (default: default)")
    add(
        "--prompt-tokens", type=positive_number, default=128, help="whole prompt, with the template"
    )
    add("--output-tokens", type=positive_number, default=64)
    add("--shared-prefix-tokens", type=number, default=0, help="of the prompt, the same for all")
    add("--temperature", type=float, default=0.0)
    add("--ignore-eos", action=argparse.BooleanOptionalAction, default=True)
    add(
        "--timeout", type=positive_number, default=600, help="seconds for one request (default 600)"
    )
    amount = mode.add_mutually_exclusive_group()
    amount.add_argument("--requests", type=positive_number, help="per level (default: 4 per user)")
    amount.add_argument("--duration", type=positive_number, help="seconds per level")


if __name__ == "__main__":
    sys.exit(main())
