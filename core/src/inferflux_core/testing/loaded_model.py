"""A model that is loaded once for all tests of a backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.runner import ModelRunner
from inferflux_core.models.reference import resolve
from inferflux_core.plugins import BACKEND, PluginManager
from inferflux_core.testing.contract import PluginContract
from inferflux_core.testing.driving import Driver

__all__ = ["LoadedModel"]


class LoadedModel(PluginContract):
    """Loads the model of a backend; skips where the backend's probe says that it cannot run.

    Attributes:
        model: reference to a small model; required if the spec says `needs_model`.
        runtime: how to load it.
        near_tie: how far apart, in logits, two tokens may be for kernels to choose either, as the
            size of a batch or chunk differs.
    """

    kind = BACKEND
    model: ClassVar[str | None] = None
    runtime: ClassVar[RuntimeConfig] = RuntimeConfig(max_num_seqs=4, max_model_len=512)
    near_tie: ClassVar[float] = 0.0

    @pytest.fixture(scope="class")
    @classmethod
    def load(cls) -> Callable[[], ModelRunner]:
        """Loads the model and warms it up; the caller closes it."""
        plugins = PluginManager()
        spec = plugins.backend(cls.plugin_name)
        probe = plugins.probe(spec)
        if not probe.available:
            pytest.skip(probe.reason)
        if spec.needs_model and cls.model is None:
            pytest.fail(f"{cls.__name__} needs `model`, a reference to a small model")
        path = str(resolve(cls.model)) if cls.model is not None else None

        def load() -> ModelRunner:
            runner = spec.factory(ModelConfig(path=path), cls.runtime)
            runner.warm_up()
            return runner

        return load

    @pytest.fixture(scope="class")
    @classmethod
    def runner(cls, load: Callable[[], ModelRunner]) -> Iterator[ModelRunner]:
        """The loaded model."""
        runner = load()
        yield runner
        runner.close()

    @pytest.fixture
    def driver(self, runner: ModelRunner) -> Iterator[Driver]:
        """The loaded model, all slots empty, with positions kept."""
        driver = Driver(runner)
        yield driver
        driver.release_all()
