"""The backend for CUDA with Triton: fused passes and drawing (triton_kernels.py).

Each kernel is an operator of PyTorch's, so that graphs, and whatever else looks at operators, can
take it as one step. Triton is imported when a kernel is used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from everything.core.device import sent
from everything.core.out_of_memory import Lots
from everything.decoding.backends.protocol import Answers, Limits
from everything.decoding.decoder_parts import Parts
from everything.decoding.image_passes import FirstUpdate, SecondUpdate, read_rows
from everything.decoding.image_side import ImageSide
from everything.decoding.low_rank import against, by_head, merge_heads, rows
from everything.decoding.transformer import Solved, in_lots, solve
from everything.decoding.weight_folding import Folded

SMALLEST = 16  # rows and columns of a product
PRECISION = "tf32x3"  # three products of halved floats: as exact as float32


def refusal(parts: Parts) -> str:
    """Return why the kernels do not serve a decoder; empty if they do."""
    tokens = parts.tokens
    if tokens.device.type != "cuda" or tokens.dtype != torch.float32:
        return f"they are for CUDA and float32, not {tokens.device.type} and {tokens.dtype}"
    if parts.upscaling.gelu != "none":
        return f"they have the exact GELU, not {parts.upscaling.gelu}"
    if parts.upscaling.norm.over_map:
        return "they have a norm over channels, not over the map"
    if find_spec("triton") is None:
        return "Triton is not installed"
    return ""


@dataclass(frozen=True)
class TritonKernels:
    """The backend of the fused kernels.

    Attributes:
        limits: What the device is given at a time.
        scored: How many prompts memory has allowed to score at a time.
        drawn: The same, of prompts whose masks are drawn.
    """

    limits: Limits
    scored: Lots
    drawn: Lots
    in_bulk: bool = True

    @classmethod
    def of(cls, limits: Limits) -> TritonKernels:
        """Return the backend within limits."""
        scored = Lots("prompts are scored", limits.prompts)
        return cls(limits, scored, Lots("prompts' masks are drawn", 2**20))

    def image(self, parts: Parts, folded: Folded, image: ImageSide) -> TritonImage:
        """Return an image's side, ready for prompts."""
        return TritonImage(parts, folded, image, self)


@dataclass(frozen=True)
class TritonImage:
    """An image's side for the fused kernels."""

    parts: Parts
    folded: Folded
    image: ImageSide
    backend: TritonKernels

    def solve(self, tokens: Tensor) -> Solved:
        """Return prompts' tokens (P, T, C) after the transformer."""
        step = partial(solve, self.parts, self.folded, self.image, passes=self)
        return in_lots(tokens, self.backend.scored, self.backend.limits.prompts, step)

    def first_pass(self, update: FirstUpdate, q1: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `image_passes.first_pass` does."""
        f, i, v0 = self.folded, self.image, update.v0
        Mq, Mv = against(q1, rows(v0, f.k1.E[0])), by_head(rows(v0, f.v1.E[0]), f.heads)
        of_image = [i.Q0, i.n0, i.Z0, i.S_k1, f.k1.P_by_head, i.S_v1]
        of_prompts = [update.k0, v0, update.G, q1, Mq]
        reads, gathered, s1 = _first_pass(_contiguous(of_image), _contiguous(of_prompts))
        return self._read(reads, [(gathered, Mv)], f.v1.P), s1

    def second_pass(
        self, updates: tuple[FirstUpdate, SecondUpdate], s1: Tensor, qf: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what `image_passes.second_pass` does."""
        f, i, (first, second) = self.folded, self.image, updates
        M0, M1 = (against(qf, each) for each in read_rows(f.kf, first.v0, second.v1))
        Mv0, Mv1 = (by_head(each, f.heads) for each in read_rows(f.vf, first.v0, second.v1))
        of_image = [i.Q0, i.S_q1, f.q1.P_by_head, i.n1, i.Zt0, i.Zt1, i.z_c, i.S_kf]
        of_image += [f.kf.P_by_head, i.S_vf]
        of_prompts = [first.k0, first.v0, second.k1, second.v1, second.Mk]
        of_prompts += [second.G00, second.G10, second.G11, qf, M0, M1, s1]
        reads, gathered, later, s2 = _second_pass(
            _contiguous(of_image), _contiguous(of_prompts), f.eps1
        )
        return self._read(reads, [(gathered, Mv0), (later, Mv1)], f.vf.P), s2

    def _read(self, reads: Tensor, gathered: list[tuple[Tensor, Tensor]], P: Tensor) -> Tensor:
        h, flat = self.folded.heads, (reads + P.view(self.folded.heads, 1, -1)).flatten(0, 1)
        for weights, values in gathered:
            weights = torch.unflatten(weights, 1, (h, -1)).flatten(0, 1)
            flat = torch.baddbmm(flat, weights, values.flatten(0, 1))
        return merge_heads(flat.view(reads.shape))

    def draw(
        self, solved: Solved, hyper: Tensor, answers: Answers, position: Tensor, out: Tensor
    ) -> None:
        """Draw masks: see `BackendImage`."""
        table = torch.full(hyper.shape[:2], -1)
        rounds = _repeated(answers, table.shape[1])
        d, up = self.image.drawn, self.parts.upscaling
        bias = up.second.bias
        decoder = [up.norm.weight, up.norm.bias, up.second.weight.detach()]
        decoder.append(decoder[1] if bias is None else bias.detach())
        of_image = [d.Q0, d.S_q1, d.P_q1, d.S_up, d.P_up, d.S_up if d.skip is None else d.skip]
        flags = [d.skip is not None, bias is not None]
        each = 4 * 2 * solved.Mk.shape[2] * d.S_up.shape[0]
        most = self.backend.limits.memory // 2 // (2 * each)
        for some in rounds:
            table.fill_(-1)
            table[answers.prompt[some], answers.level[some]] = position[some]
            places = sent(table.clone(), out.device)

            def step(lot: slice, places: Tensor = places) -> None:
                s = solved.rows(lot)
                M = torch.cat(read_rows(self.folded.up, s.v0, s.v1), 1)
                of_prompts = [s.k0, s.k1, s.Mk, M, s.s1, s.s2, hyper[lot], places[lot]]
                _draw(
                    _contiguous(of_image), _contiguous(of_prompts), _contiguous(decoder), out,
                    [*d.cells, *flags], up.norm.eps,
                )  # fmt: skip

            for _ in self.backend.drawn.each(len(hyper), most, step):
                pass


def _repeated(answers: Answers, levels: int) -> Iterable[Tensor]:
    """Rows of answers in rounds in which none is wanted twice; one round, as a rule."""
    code = answers.prompt * levels + answers.level
    order = torch.argsort(code, stable=True)
    code = code[order]
    first = torch.searchsorted(code, code)
    number = torch.arange(len(code)) - first
    for k in range(int(number.max()) + 1 if len(number) else 0):
        yield order[number == k]


def _contiguous(tensors: list[Tensor]) -> list[Tensor]:
    return [x.contiguous() for x in tensors]


def _next_power(x: int) -> int:
    return 1 << max(0, x - 1).bit_length()


def _shape(k0: Tensor) -> dict[str, Any]:
    """What all kernels are compiled for."""
    _, H, T, D = k0.shape
    HP = _next_power(H)
    TP = max(_next_power(T), SMALLEST // HP)
    DP = max(_next_power(D), SMALLEST // HP)
    sizes = {"H": H, "T": T, "D": D, "HP": HP, "TP": TP, "DP": DP, "BLOCK": 32}
    return sizes | {"PRECISION": PRECISION if k0.device.type == "cuda" else "ieee"}


@cache
def _kernels() -> Any:
    from everything.decoding.backends import triton_kernels

    return triton_kernels


@torch.library.custom_op("everything::first_pass", mutates_args=())
def _first_pass(image: list[Tensor], prompts: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    k0, _, _, q1, Mq = prompts
    N = image[1].shape[0]
    reads, gathered, s1 = torch.empty_like(q1), torch.empty_like(Mq), q1.new_empty(len(q1), N)
    if len(q1):
        _kernels().first_pass[(len(q1),)](*image, *prompts, reads, gathered, s1, N, **_shape(k0))
    return reads, gathered, s1


@torch.library.custom_op("everything::second_pass", mutates_args=())
def _second_pass(
    image: list[Tensor], prompts: list[Tensor], eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    k0, qf, M0, s1 = prompts[0], prompts[8], prompts[9], prompts[11]
    reads, s2 = torch.empty_like(qf), torch.empty_like(s1)
    gathered, later = torch.empty_like(M0), torch.empty_like(M0)
    if len(qf):
        found = (reads, gathered, later, s2)
        _kernels().second_pass[(len(qf),)](*image, *prompts, *found, s1.shape[1], eps, **_shape(k0))
    return reads, gathered, later, s2


@torch.library.custom_op("everything::draw", mutates_args=("out",))
def _draw(
    image: list[Tensor],
    prompts: list[Tensor],
    decoder: list[Tensor],
    out: Tensor,
    cells: list[int],
    eps: float,
) -> None:
    rows_, columns, skip, bias = cells
    n, (P, answers, G) = rows_ * columns, prompts[6].shape
    shape = _shape(prompts[0])
    F, step = decoder[0].shape[0], int(image[4].shape[1] > 1 or n == 1)
    sizes = {"F": F, "G": G, "ANSWERS": answers, "SKIP": bool(skip), "BIAS": bool(bias)}
    sizes |= {"FP": max(_next_power(F), SMALLEST), "GP": max(_next_power(G), SMALLEST)}
    grid = (P, -(-n // shape["BLOCK"]))
    hyper, position = prompts[6:]
    _kernels().draw[grid](
        *image, *prompts[:6], *decoder, hyper, position, out, n, step, columns, out.shape[2],
        out.shape[1] * out.shape[2], eps, **sizes, **shape,
    )  # fmt: skip
