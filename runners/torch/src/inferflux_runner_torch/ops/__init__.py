"""What a decoder layer is made of, by kind of device."""

from inferflux_runner_torch.ops.ops import Activation, KVLayer, Linear, Ops, Precision, Rows
from inferflux_runner_torch.ops.torch_ops import TorchOps

__all__ = ["Activation", "KVLayer", "Linear", "Ops", "Precision", "Rows", "TorchOps"]
