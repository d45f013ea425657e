from __future__ import annotations

from typing import Any

import pytest

from inferflux_core.config.schema import ModelConfig, PluginsConfig, RuntimeConfig
from inferflux_core.engine.assembly import assemble
from inferflux_core.engine.protocol import LoadModel
from inferflux_core.errors import ConfigError
from inferflux_core.plugins import PluginManager


def load(**runtime: Any) -> LoadModel:
    settings = RuntimeConfig(scheduler="fair", **runtime)
    model = ModelConfig(name="stub")
    return LoadModel(model=model, backend="stub", runtime=settings, plugins=PluginsConfig())


def test_an_engine_takes_its_options_from_the_configuration() -> None:
    loaded = assemble(load(scheduler_options={"weights": {"research": 3}, "input_token_cost": 0.5}))
    loaded.engine.close()


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"weights": {"research": 0}}, "weights"),
        ({"weights": {"research": float("inf")}}, "weights"),
        ({"output_token_cost": float("nan")}, "output_token_cost"),
        ({"wieghts": {}}, "wieghts"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], place: str) -> None:
    plugins = PluginManager()

    with pytest.raises(ConfigError, match=f"runtime.scheduler_options.{place}"):
        plugins.options(plugins.scheduler("fair"), options)
