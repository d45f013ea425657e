"""Encoders, which see a whole text at once: they embed texts, and rank documents."""

from inferflux_runner_torch.encoder.config import EncoderConfig, read_config
from inferflux_runner_torch.encoder.encoder import Encoder
from inferflux_runner_torch.encoder.runner import EncoderRunner
from inferflux_runner_torch.encoder.weights import check_weights, load_weights

__all__ = [
    "Encoder",
    "EncoderConfig",
    "EncoderRunner",
    "check_weights",
    "load_weights",
    "read_config",
]
