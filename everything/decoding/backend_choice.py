"""The choice of a backend: the only place that decides between them."""

from __future__ import annotations

from everything.decoding import cpu_kernels
from everything.decoding.backend import Backend, Limits
from everything.decoding.cpu_kernels import CpuKernels
from everything.decoding.decoder_parts import Parts
from everything.decoding.gpu_batched import TorchBatches
from everything.decoding.torch_loop import TorchLoop
from everything.errors import ConfigError


def choose_backend(parts: Parts, kernels: str, compile: bool, limits: Limits) -> Backend:
    """Return the backend for a decoder, by its device and structure.

    Args:
        parts: The decoder.
        kernels: "auto", "fused" or "torch": see `Compute.kernels`.
        compile: See `Compute.compile`; of accelerators only.
        limits: What an accelerator is given at a time.

    Raises:
        ConfigError: Kernels are wished for ("fused") and do not serve this decoder.
    """
    refusal = cpu_kernels.refusal(parts)
    if refusal and kernels == "fused":
        raise ConfigError(f"compute.kernels = 'fused': {refusal}: leave it out")
    if parts.tokens.device.type != "cpu":
        return TorchBatches(limits, compile)
    return TorchLoop() if refusal or kernels == "torch" else CpuKernels()
