from __future__ import annotations

import itertools
import os
import queue
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferflux_core.engine.adapters import MAX_ADAPTERS, AdapterRegistry
from inferflux_core.engine.calls import CallHandler
from inferflux_core.engine.engine import Engine
from inferflux_core.engine.kv.manager import KVCacheManager
from inferflux_core.engine.preparation import RequestFactory
from inferflux_core.engine.protocol import (
    AdapterUse,
    CallFailed,
    Done,
    Generate,
    LoadAdapter,
    TokenPrompt,
    UnloadAdapter,
)
from inferflux_core.engine.request import Request
from inferflux_core.engine.runner import Work
from inferflux_core.engine.sampling_params import SamplingParams
from inferflux_core.engine.scheduler import SchedulerLimits
from inferflux_core.errors import InvalidRequestError, ModelNotFoundError
from inferflux_core.schedulers.fcfs import FCFSScheduler
from inferflux_core.testing import DeterministicRunner


class HostingRunner(DeterministicRunner):
    """An adapter is a file with a number in it, by which every token is shifted before it is hashed."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.capabilities = replace(self.capabilities, hosts_adapters=True)
        self.shifts: dict[int, int] = {}
        self._handles = 0

    def load_adapter(self, path: Path) -> int:
        text = path.read_text()
        if not text.isdecimal():
            raise InvalidRequestError(f"{path.name} is damaged")
        self._handles += 1
        self.shifts[self._handles] = int(text)
        return self._handles

    def free_adapter(self, handle: int) -> None:
        del self.shifts[handle]

    def _advance(self, work: Work) -> list[int]:
        shift = sum(int(self.shifts[handle] * scale) for handle, scale in work.adapters)
        vocab = self.capabilities.vocab_size
        return super()._advance(
            replace(work, token_ids=[(token + shift) % vocab for token in work.token_ids])
        )


class Bench:
    """An engine with adapters, as `assemble` puts it together."""

    def __init__(self, folder: Path, **arguments: Any) -> None:
        self.folder = folder
        self.runner = HostingRunner(**arguments)
        capabilities = self.runner.capabilities
        self.adapters = AdapterRegistry(self.runner)
        self.factory = RequestFactory(self.runner.tokenizer, capabilities, None, self.adapters)
        limits = SchedulerLimits(max_num_seqs=capabilities.max_num_seqs, max_num_batched_tokens=64)
        self.engine = Engine(
            self.runner,
            FCFSScheduler(limits),
            KVCacheManager(self.runner, 1 << 20),
            on_finish=lambda request: self.adapters.release(request.adapters),
        )
        self._ids = 0

    def load(self, name: str, shift: int | str) -> None:
        file = self.folder / f"{name}.gguf"
        file.write_text(str(shift))
        self.adapters.load(name, file)

    def build(self, token_ids: list[int], *uses: AdapterUse, max_tokens: int = 6) -> Request:
        self._ids += 1
        return self.factory.build(
            Generate(
                request_id=self._ids,
                prompt=TokenPrompt(token_ids=token_ids),
                params=SamplingParams(temperature=0, ignore_eos=True, max_tokens=max_tokens),
                adapters=list(uses),
            )
        )

    def run(self) -> None:
        while self.engine.has_unfinished_requests:
            list(self.engine.step())
            self.engine.check_integrity()
            self.adapters.check_integrity()

    def answer(self, token_ids: list[int], *uses: AdapterUse, max_tokens: int = 6) -> list[int]:
        request = self.build(token_ids, *uses, max_tokens=max_tokens)
        self.engine.add_request(request)
        self.run()
        return request.output_token_ids


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.load("one", 1)
    bench.load("two", 2)
    return bench


def use(name: str, scale: float = 1.0) -> AdapterUse:
    return AdapterUse(name=name, scale=scale)


PROMPT = list(range(30, 230))


def test_adapters_change_answers_and_add_up(bench: Bench) -> None:
    bench.load("three", 3)
    base = bench.answer(PROMPT)
    one, two = bench.answer(PROMPT, use("one")), bench.answer(PROMPT, use("two"))
    both = bench.answer(PROMPT, use("one"), use("two"))
    assert len({tuple(answer) for answer in (base, one, two, both)}) == 4
    assert both == bench.answer(PROMPT, use("three"))
    assert two == bench.answer(PROMPT, use("one", 2.0))


def test_a_scale_of_zero_is_the_bare_model_and_shares_its_prefixes(bench: Bench) -> None:
    base = bench.answer(PROMPT)
    request = bench.build(PROMPT, use("one", 0.0))
    bench.engine.add_request(request)
    bench.run()
    assert request.output_token_ids == base
    assert request.adapters == ()
    assert request.num_cached_tokens == 192


def test_prefixes_are_shared_among_the_same_versions_and_scales_only(bench: Bench) -> None:
    sets = {
        "base": [],
        "one": [use("one")],
        "weaker": [use("one", 0.5)],
        "both": [use("one"), use("two")],
    }
    salts = {name: bench.build([1], *uses).cache_salt for name, uses in sets.items()}
    assert len(set(salts.values())) == len(sets)
    assert salts["both"] == bench.build([1], use("two"), use("one")).cache_salt
    bench.load("one", 7)
    assert bench.build([1], use("one")).cache_salt != salts["one"]
    bench.load("one", 1)
    assert bench.build([1], use("one")).cache_salt == salts["one"]


def test_what_is_replaced_stays_until_its_last_user_has_ended(bench: Bench) -> None:
    old = bench.answer(PROMPT, use("one"), max_tokens=12)
    running = [bench.build(PROMPT, use("one"), max_tokens=12) for _ in range(2)]
    for request in running:
        bench.engine.add_request(request)
    list(bench.engine.step())
    before = dict(bench.runner.shifts)

    bench.load("one", 9)
    assert bench.runner.shifts == {**before, 3: 9}
    new = bench.build(PROMPT, use("one"), max_tokens=12)
    bench.engine.add_request(new)
    bench.run()

    assert [request.output_token_ids for request in running] == [old, old]
    assert new.output_token_ids == bench.answer(PROMPT, use("one"), max_tokens=12) != old
    assert bench.runner.shifts == {2: 2, 3: 9}


def test_what_is_unloaded_is_freed_when_a_waiting_user_is_aborted(bench: Bench) -> None:
    request = bench.build(PROMPT, use("one"))
    bench.adapters.unload("one")
    assert 1 in bench.runner.shifts
    with pytest.raises(ModelNotFoundError, match="'one' is not loaded"):
        bench.build(PROMPT, use("one"))
    bench.engine.add_request(request)
    bench.engine.abort_request(request.request_id)
    assert bench.runner.shifts == {2: 2}


def test_a_file_that_cannot_be_loaded_leaves_the_old_one_in_place(bench: Bench) -> None:
    before = bench.answer(PROMPT, use("one"))
    with pytest.raises(InvalidRequestError, match="damaged"):
        bench.load("one", "no number")
    assert bench.answer(PROMPT, use("one")) == before
    bench.adapters.check_integrity()


@pytest.mark.parametrize(
    ("uses", "message"),
    [
        ([use("one"), use("one", 0.5)], "'one' twice"),
        ([use("one", 11.0)], "between -10 and 10"),
        ([use("one", float("nan"))], "between -10 and 10"),
        ([use(f"a{i}") for i in range(MAX_ADAPTERS + 1)], "at most 8"),
        ([use("one"), use("none")], "'none' is not loaded"),
        ([use("none", 11.0)], "between -10 and 10"),
    ],
    ids=["twice", "strong", "nan", "many", "unknown", "unknown and strong"],
)
def test_what_cannot_be_applied_is_refused_and_holds_nothing(
    bench: Bench, uses: list[AdapterUse], message: str
) -> None:
    with pytest.raises((InvalidRequestError, ModelNotFoundError), match=message) as caught:
        bench.build([1], *uses)
    assert caught.value.param == "adapters"
    bench.adapters.unload("one")
    assert 1 not in bench.runner.shifts


def test_a_model_without_adapters_says_so(tmp_path: Path) -> None:
    registry = AdapterRegistry(DeterministicRunner())
    with pytest.raises(InvalidRequestError, match="does not take adapters"):
        registry.load("one", tmp_path)


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_nothing(path: Path) -> None:
    del path


@pytest.mark.parametrize(
    "make", [make_pipe, make_nothing, Path.mkdir], ids=["pipe", "nothing", "folder"]
)
def test_only_files_are_read(bench: Bench, tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "odd.gguf"
    make(path)
    with pytest.raises(InvalidRequestError, match=r"odd\.gguf"):
        bench.adapters.load("odd", path)


def test_calls(bench: Bench, tmp_path: Path) -> None:
    calls = CallHandler(bench.runner, bench.factory, bench.adapters)
    good, bad = tmp_path / "good.gguf", tmp_path / "bad.gguf"
    good.write_text("5")
    bad.write_text("x")

    assert calls.answer(LoadAdapter(call_id=1, name="new", path=str(good))) == Done(call_id=1)
    assert bench.answer(PROMPT, use("new"))
    assert calls.answer(UnloadAdapter(call_id=2, name="new")) == Done(call_id=2)
    refused = calls.answer(LoadAdapter(call_id=3, name="new", path=str(bad)))
    unknown = calls.answer(UnloadAdapter(call_id=4, name="new"))

    assert isinstance(refused, CallFailed)
    assert (refused.code, refused.message) == ("invalid_request", "bad.gguf is damaged")
    assert isinstance(unknown, CallFailed)
    assert unknown.code == "model_not_found"


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32))
def test_golden_while_adapters_come_and_go(tmp_path: Path, seed: int) -> None:
    """Whatever is loaded, replaced and unloaded meanwhile, a request gets what it would get alone."""
    rng = random.Random(seed)
    bench = Bench(tmp_path, max_num_seqs=rng.randint(1, 4), rows_per_pass=rng.randint(1, 4))
    names = {"one": 1, "two": 2}
    for name, shift in names.items():
        bench.load(name, shift)
    live: list[tuple[Request, int]] = []
    prompt = [rng.randrange(258) for _ in range(150)]
    for _ in range(12):
        uses = [use(name, rng.choice([0.0, 1.0, 2.0])) for name in names if rng.random() < 0.6]
        shift = sum(int(names[u.name] * u.scale) for u in uses)
        request = bench.build(prompt[: rng.randint(60, 150)], *uses)
        live.append((request, shift))
        bench.engine.add_request(request)
        if rng.random() < 0.2:
            bench.engine.abort_request(request.request_id)
        list(bench.engine.step())
        name = rng.choice(["one", "two", "three"])
        if name in names and rng.random() < 0.4:
            bench.adapters.unload(name)
            del names[name]
        else:
            names[name] = rng.randint(1, 5)
            bench.load(name, names[name])
        bench.adapters.check_integrity()
    bench.run()

    assert sorted(bench.runner.shifts.values()) == sorted(names.values())
    alone = DeterministicRunner()
    for request, shift in live:
        tokens = list(request.token_ids)
        for position in range(request.num_prompt_tokens, len(tokens)):
            shifted = [(token + shift) % 258 for token in tokens[:position]]
            assert alone.continuation(shifted, 1) == [tokens[position]]


def test_requests_may_be_built_while_adapters_come_and_go(bench: Bench) -> None:
    """Two threads, as in the engine process: what a request was given is never freed under it."""
    built: queue.Queue[Request | None] = queue.Queue(maxsize=8)

    def read() -> None:
        for _ in range(400):
            built.put(bench.build([1, 2], use("one"), use("two", 0.5)))
        built.put(None)

    reader = threading.Thread(target=read)
    reader.start()
    for shift in itertools.count():
        bench.load("one", shift)
        if (request := built.get()) is None:
            break
        assert all(handle in bench.runner.shifts for handle, _ in request.adapters)
        bench.adapters.release(request.adapters)
    reader.join()
    bench.adapters.check_integrity()
    assert len(bench.runner.shifts) == 2
