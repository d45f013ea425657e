"""InferFlux core: hooks, plugins, configuration and the engine. Knows no web framework and no device."""
