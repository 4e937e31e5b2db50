"""The seam between the decoder's algebra and whatever computes it.

A backend does the two passes over the image's tokens and draws masks; everything else of the
decoder is the same for all. There are four; `choice.py` is the only place that decides
between them:

| backend | where | file |
|---|---|---|
| `TorchLoop` | the reference: one prompt after the other | torch_loop.py |
| `CpuKernels` | CPUs, float32: C++ | cpu_kernels.py |
| `TorchBatches` | accelerators: PyTorch operations for many prompts | gpu_batched.py |
| `TritonKernels` | CUDA, float32: fused kernels | triton_backend.py |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

from torch import Tensor

from everything.config import Compute, Decoding
from everything.core.device import free_memory
from everything.decoding.decoder_parts import Parts
from everything.decoding.image_side import ImageSide
from everything.decoding.transformer import Solved
from everything.decoding.weight_folding import Folded


@dataclass(frozen=True)
class Limits:
    """What a device is given at a time.

    Attributes:
        memory: Bytes that intermediate results may take.
        prompts: Prompts per batch, at most.
    """

    memory: int = 2 * 2**30
    prompts: int = 1024

    @classmethod
    def of(cls, compute: Compute, decoding: Decoding) -> Self:
        """Return the limits that the settings ask for, at most half of the memory that is free."""
        default: int = Decoding.model_fields["points_per_batch"].default
        asked = decoding.points_per_batch
        prompts = cls.prompts if asked == default else asked
        return cls(min(compute.device_bytes, free_memory(compute) // 2), prompts)


class BackendImage(Protocol):
    """An image's side of the decoder, ready for prompts, for one backend."""

    def solve(self, tokens: Tensor) -> Solved:
        """Return prompts' tokens (P, T, C) after the transformer. P may be 0."""
        ...

    def draw(
        self, solved: Solved, hyper: Tensor, answers: Answers, position: Tensor, out: Tensor
    ) -> None:
        """Draw masks.

        Args:
            solved: P prompts.
            hyper: (P, M, G), the weights of the mask features for each of their answers.
            answers: Which of them are wanted.
            position: int64 (N,) on the CPU, the place in `out` of each wanted answer.
            out: (K, 4 h, 4 w) logits, of which only the cells with content are written.
        """
        ...


class Backend(Protocol):
    """A way to compute the passes and to draw."""

    @property
    def in_bulk(self) -> bool:
        """Whether it takes any number of prompts and masks, in lots that it sizes itself."""
        ...

    def image(self, parts: Parts, folded: Folded, image: ImageSide) -> BackendImage:
        """Return an image's side, ready for prompts."""
        ...


@dataclass(frozen=True)
class Answers:
    """N answers that are wanted of P prompts, ordered by prompt.

    Attributes:
        prompt: int64 (N,) on the CPU, ascending.
        level: int64 (N,) on the CPU, which of the prompt's M answers.
    """

    prompt: Tensor
    level: Tensor
