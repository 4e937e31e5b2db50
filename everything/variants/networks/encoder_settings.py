"""How an image encoder runs: its precision, compiled or not, as CUDA graphs or not."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from everything.config import Compute
from everything.core.device import PRECISIONS, device_of
from everything.errors import ConfigError
from everything.variants.networks.cuda_graphs import Replayed


def configure_encoder(encoder: nn.Module, compute: Compute) -> None:
    """Apply the settings' precision, compilation and CUDA graphs to an image encoder, in place.

    It still returns float32 tensors. Lower precisions use torch's autocast, which keeps norms and
    softmax in float32. For the decoder see everything/decoding/backends/gpu_batched.py.

    Raises:
        ConfigError: CUDA graphs are asked for without CUDA, or with compilation.
    """
    device = device_of(compute).type
    if compute.cuda_graphs and (device != "cuda" or compute.compile):
        reason = "it needs a CUDA GPU" if device != "cuda" else "compute.compile is on"
        raise ConfigError(f"compute.cuda_graphs = true: {reason}: leave it out")
    precision = PRECISIONS.get(compute.precision, torch.float32)
    if precision != torch.float32:
        forward = encoder.forward

        @functools.wraps(forward)
        def reduced(*args: Any, **kwargs: Any) -> Any:
            with torch.autocast(device, precision):
                found = forward(*args, **kwargs)
            return tree_map(_float32, found)

        encoder.forward = reduced
    if compute.compile:
        encoder.compile()
    if compute.cuda_graphs:
        encoder.forward = Replayed(encoder.forward)


def _float32(value: Any) -> Any:
    floating = isinstance(value, Tensor) and value.is_floating_point()
    return value.float() if floating else value
