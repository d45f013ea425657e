"""GGUF files as if they were folders with safetensors: nothing is written."""

from inferflux_runner_torch.gguf.checkpoint import GGUFCheckpoint
from inferflux_runner_torch.gguf.model import GGUFModel

__all__ = ["GGUFCheckpoint", "GGUFModel"]
