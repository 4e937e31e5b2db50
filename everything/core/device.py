"""The device of a network, and what goes to it and comes from it."""

from __future__ import annotations

import torch
from torch import Tensor

from everything.config import Compute, Decoding
from everything.errors import ConfigError

ON_CPU, DEFAULT_DECODING = Compute(device="cpu"), Decoding()
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def device_of(compute: Compute) -> torch.device:
    """Return the device that the settings name.

    Raises:
        ConfigError: This machine does not have it.
    """
    if compute.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(compute.device)
        torch.zeros(1, device=device).cpu()  # fails on "meta", which holds no values
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise ConfigError(
            f"compute.device = {compute.device!r}: device not available ({reason}): "
            f"leave it out or use cpu"
        ) from error
    return device


def free_memory(compute: Compute) -> int:
    """Return the bytes that are free on the settings' device; 1 TiB where nothing is known."""
    device = device_of(compute)
    if device.type != "cuda" or not torch.cuda.is_available():
        return 2**40
    return torch.cuda.mem_get_info(device)[0]


def sent(x: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device.

    A copy from the CPU does not wait for running GPU work: CUDA stages memory that is not pinned
    before it returns.
    """
    return x.to(device, non_blocking=x.device.type == "cpu" and device.type == "cuda")


def fetched(x: Tensor) -> Tensor:
    """Return a tensor on the CPU; the host waits for the device once.

    From CUDA it comes through pinned memory, without a copy by the driver in between.
    """
    if x.device.type != "cuda" or not torch.cuda.is_available():
        return x.cpu()
    found = torch.empty_like(x, device="cpu", pin_memory=True)
    found.copy_(x, non_blocking=True)
    torch.cuda.current_stream(x.device).synchronize()
    return found
