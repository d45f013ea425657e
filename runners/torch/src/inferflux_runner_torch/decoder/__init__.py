"""Decoders of the families that Hugging Face calls `...ForCausalLM`."""

from inferflux_runner_torch.decoder.config import DecoderConfig, read_config
from inferflux_runner_torch.decoder.decoder import Decoder
from inferflux_runner_torch.decoder.weights import (
    Checkpoint,
    check_weights,
    linears_of,
    load_weights,
)

__all__ = [
    "Checkpoint",
    "Decoder",
    "DecoderConfig",
    "check_weights",
    "linears_of",
    "load_weights",
    "read_config",
]
