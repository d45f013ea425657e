"""LoRA adapters beside a model: each row of a batch has its own."""

from inferflux_runner_torch.adapters.plan import LoraPlan
from inferflux_runner_torch.adapters.store import Adapters

__all__ = ["Adapters", "LoraPlan"]
