"""The choice of a backend: the only place that decides between them."""

from __future__ import annotations

from everything.decoding.backends import cpu_kernels, triton_backend
from everything.decoding.backends.cpu_kernels import CpuKernels
from everything.decoding.backends.gpu_batched import TorchBatches
from everything.decoding.backends.protocol import Backend, Limits
from everything.decoding.backends.torch_loop import TorchLoop
from everything.decoding.backends.triton_backend import TritonKernels
from everything.decoding.decoder_parts import Parts
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
    on_cpu = parts.tokens.device.type == "cpu"
    refusal = (cpu_kernels if on_cpu else triton_backend).refusal(parts)
    if refusal and kernels == "fused":
        raise ConfigError(f"compute.kernels = 'fused': {refusal}: leave it out")
    by_torch = refusal or kernels == "torch"
    if on_cpu:
        return TorchLoop() if by_torch else CpuKernels()
    # torch.compile makes graphs of PyTorch's operations: whoever asks for it gets these.
    return TorchBatches(limits, compile) if by_torch or compile else TritonKernels.of(limits)
