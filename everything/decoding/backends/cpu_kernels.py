"""The passes over the image and the drawing by the compiled kernels, if they are available.

The algebra is that of image_passes.py, shared_image.py and upscale.py, the arithmetic float32: a
tile of image tokens stays in the processor's inner caches while all of a prompt's steps, and many
prompts, look at it, and nothing of a prompt's (T h, N) scores or weights is ever in memory. They
serve processors, float32 and exact GELU; whatever else is asked runs as torch's operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from everything.decoding.backends.protocol import Answers
from everything.decoding.backends.torch_loop import LoopImage
from everything.decoding.decoder_parts import Parts
from everything.decoding.image_passes import FirstUpdate, SecondUpdate, read_rows
from everything.decoding.image_side import ImageSide
from everything.decoding.low_rank import against, by_head, merge_heads, rows
from everything.decoding.transformer import Solved, in_chunks, solve
from everything.decoding.weight_folding import Folded
from everything.kernels import loader
from everything.kernels.loader import TILE, in_threads


def refusal(parts: Parts) -> str:
    """Return why the kernels do not serve a decoder; empty if they do."""
    tokens = parts.tokens
    if loader.kernels is None:
        return "they were not built when this was installed, for want of a C++ compiler"
    if tokens.device.type != "cpu" or tokens.dtype != torch.float32:
        return f"they are for CPUs and float32, not {tokens.device.type} and {tokens.dtype}"
    if parts.upscaling.gelu != "none":
        return f"they have the exact GELU, not {parts.upscaling.gelu}"
    return ""


@dataclass(frozen=True)
class CpuKernels:
    """The backend of the compiled kernels."""

    in_bulk: bool = False

    def image(self, parts: Parts, folded: Folded, image: ImageSide) -> KernelImage | LoopImage:
        """Return an image's side, ready for prompts; PyTorch's while the kernels are set aside."""
        if loader.kernels is None:
            return LoopImage(parts, folded, image)
        return KernelImage.of(parts, folded, image)


@dataclass(frozen=True)
class KernelImage:
    """An image's side, tile by tile: kernels/arguments.hpp has what each kernel takes.

    first, second, drawn: the arrays of the image that the three kernels begin with. tokens: image
    tokens that are not padding of the last tile.
    """

    parts: Parts
    folded: Folded
    image: ImageSide
    first: list[Tensor]
    second: list[Tensor]
    drawn: list[Tensor]
    tokens: int

    @classmethod
    def of(cls, parts: Parts, folded: Folded, image: ImageSide) -> KernelImage:
        """Return the tiles of an image's side."""
        f, i, d = folded, image, image.drawn
        Q0 = tiled(i.Q0)
        first = [Q0, tiled(i.n0, 1), tiled(i.Z0), tiled(i.S_k1), tiled(f.k1.P_by_head)]
        second = [Q0, tiled(i.S_q1), tiled(f.q1.P_by_head), tiled(i.n1, 1), tiled(i.Zt0)]
        second += [tiled(i.Zt1), tiled(i.z_c), tiled(i.S_kf), tiled(f.kf.P_by_head)]
        flat = d.P_up.shape[-1] == 1
        skip = torch.zeros(0) if d.skip is None else tiled(d.skip)
        drawn = [tiled(d.Q0), tiled(d.S_q1), tiled(d.P_q1), tiled(d.S_up)]
        drawn += [d.P_up.contiguous() if flat else tiled(d.P_up), skip]
        first.append(turned(i.S_v1))
        second.append(turned(i.S_vf))
        return cls(parts, f, i, first, second, drawn, i.n0.shape[0])

    def solve(self, tokens: Tensor) -> Solved:
        """Return prompts' tokens (P, T, C) after the transformer."""
        return in_chunks(tokens, self._solve)

    def _solve(self, tokens: Tensor) -> Solved:
        return solve(self.parts, self.folded, self.image, tokens, self)

    def first_pass(self, update: FirstUpdate, q1: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `image_passes.first_pass` does, s1 (P, tiles · TILE) padded at its end."""
        f, v0 = self.folded, update.v0
        Mq, Mv = against(q1, rows(v0, f.k1.E[0])), by_head(rows(v0, f.v1.E[0]), f.heads)
        reads, gathered = torch.empty_like(q1), torch.empty_like(Mq)
        s1 = q1.new_empty(len(q1), len(self.first[0]) * TILE)
        each = [update.k0, v0, upper(update.G), q1, Mq, reads, gathered, s1]

        def run(some: slice) -> None:
            arrays = self.first + [x[some] for x in each]
            loader.kernels.first_pass(self._shape(q1[some]), _numpy(arrays))

        in_threads(run, len(q1))
        return self._read(reads, [(gathered, Mv)], f.v1.P), s1

    def second_pass(
        self, updates: tuple[FirstUpdate, SecondUpdate], s1: Tensor, qf: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what `image_passes.second_pass` does; s1 and s2 as in first_pass."""
        f, (first, second) = self.folded, updates
        M0, M1 = (against(qf, each) for each in read_rows(f.kf, first.v0, second.v1))
        Mv0, Mv1 = (by_head(each, f.heads) for each in read_rows(f.vf, first.v0, second.v1))
        reads, gathered, later = torch.empty_like(qf), torch.empty_like(M0), torch.empty_like(M0)
        s2 = torch.empty_like(s1)
        each = [first.k0, first.v0, second.k1, second.v1, second.Mk]
        each += [upper(second.G00), second.G10, upper(second.G11), qf, M0, M1, s1]
        each += [reads, gathered, later, s2]

        def run(some: slice) -> None:
            arrays = self.second + [x[some] for x in each]
            loader.kernels.second_pass(self._shape(qf[some]), f.eps1, _numpy(arrays))

        in_threads(run, len(qf))
        return self._read(reads, [(gathered, Mv0), (later, Mv1)], f.vf.P), s2

    def draw(
        self, solved: Solved, hyper: Tensor, answers: Answers, position: Tensor, out: Tensor
    ) -> None:
        """Draw masks: see `BackendImage`. The kernel knows no norm over the map."""
        if self.parts.upscaling.norm.over_map:
            LoopImage(self.parts, self.folded, self.image).draw(
                solved, hyper, answers, position, out
            )
            return
        of, hyper = answers.prompt, hyper[answers.prompt, answers.level]
        s, up, where, G = solved, self.parts.upscaling, self.image.drawn, hyper.shape[1]
        k0, v0, k1, v1, Mk, s1, s2 = s.k0, s.v0, s.k1, s.v1, s.Mk, s.s1, s.s2
        conv, norm = up.second, up.norm
        weight = conv.weight.detach().permute(0, 2, 3, 1).flatten(1)
        bias = torch.zeros(G) if conv.bias is None else conv.bias.detach()
        M = torch.cat(read_rows(self.folded.up, v0, v1), 1)
        each = [k0, k1, Mk, M, _padded(s1), _padded(s2)]
        decoder = [norm.weight, norm.bias, weight, bias.repeat(4)]
        (rows_, columns), (height, width) = where.cells, where.grid

        def run(some: slice) -> None:
            first, last = (int(torch.searchsorted(of, end)) for end in (some.start, some.stop))
            start = torch.searchsorted(of, torch.arange(some.start, some.stop + 1)) - first
            sizes = (len(norm.weight), G, rows_, columns, height, width, last - first)
            places = position[first:last]
            arrays = self.drawn + [x[some] for x in each] + decoder
            arrays += [start, places, hyper[first:last], out]
            flags = (self.drawn[4].dim() == 2, where.skip is not None)
            shape = self._shape(k0[some], rows_ * columns)
            loader.kernels.draw(shape, (*sizes, len(out)), flags, norm.eps, _numpy(arrays))

        in_threads(run, len(k0))

    def _shape(self, x: Tensor, tokens: int | None = None) -> tuple[int, ...]:
        P, h, T, d = x.shape
        return h, T, d, tokens or self.tokens, P

    def _read(self, reads: Tensor, gathered: list[tuple[Tensor, Tensor]], P: Tensor) -> Tensor:
        h = self.folded.heads
        for weights, values in gathered:
            reads = reads + torch.unflatten(weights, 1, (h, -1)) @ values
        return merge_heads(reads + P.view(h, 1, -1))


def tiled(x: Tensor, fill: float = 0.0) -> Tensor:
    """Return x (..., N) as tiles (⌈N / TILE⌉, ..., TILE), the last one filled up."""
    tiles = torch.unflatten(_padded(x, fill), -1, (-1, TILE))
    return tiles.movedim(-2, 0).contiguous()


def turned(x: Tensor) -> Tensor:
    """Return x (h, d, N) as tiles (⌈N / TILE⌉, h, TILE, D), D being d filled up to 16s."""
    return tiled(F.pad(x, (0, 0, 0, -x.shape[1] % 16))).transpose(2, 3).contiguous()


def upper(G: Tensor) -> Tensor:
    """Return a symmetric form (P, K, K) as one whose lower triangle is zero."""
    return torch.triu(G) + torch.triu(G, 1)


def _padded(x: Tensor, fill: float = 0.0) -> Tensor:
    return F.pad(x, (0, -x.shape[-1] % TILE), value=fill)


def _numpy(tensors: list[Tensor]) -> list[Any]:
    return [x.contiguous().numpy() for x in tensors]
