"""The reference backend: PyTorch operations, one prompt after the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from everything.decoding import upscale
from everything.decoding.backends.protocol import Answers
from everything.decoding.decoder_parts import Parts
from everything.decoding.image_passes import InTorch, Workspace, layer1_scores_, read_rows
from everything.decoding.image_side import ImageSide
from everything.decoding.low_rank import mix_
from everything.decoding.transformer import Solved, in_chunks, solve
from everything.decoding.weight_folding import Folded


@dataclass(frozen=True)
class LoopImage:
    """An image's side for loops over prompts."""

    parts: Parts
    folded: Folded
    image: ImageSide

    def solve(self, tokens: Tensor) -> Solved:
        """Return prompts' tokens (P, T, C) after the transformer."""
        return in_chunks(tokens, self._solve)

    def _solve(self, tokens: Tensor) -> Solved:
        passes = InTorch.of(self.folded, self.image, tokens)
        return solve(self.parts, self.folded, self.image, tokens, passes)

    def draw(
        self, solved: Solved, hyper: Tensor, answers: Answers, position: Tensor, out: Tensor
    ) -> None:
        """Draw masks: see `BackendImage`."""
        rows, columns = self.image.drawn.cells
        counts = answers.prompt.bincount().tolist()
        positions = torch.split(position, counts)
        weights = torch.split(hyper[answers.prompt, answers.level], counts)
        for p, (some, these) in enumerate(zip(positions, weights, strict=True)):
            logits = torch.matmul(these, self._features(solved, p))
            for k, place in enumerate(some.tolist()):
                upscale.assemble_(logits[:, :, k], out[place, : 4 * rows, : 4 * columns])

    def _features(self, s: Solved, p: int) -> Tensor:
        """The mask features (4, 4, G, n) of prompt p."""
        f, drawn, s1, s2 = self.folded, self.image.drawn, s.s1[p], s.s2[p]
        work = Workspace.like(s1, 1, f.heads, s.tokens.shape[1])
        a, a1 = work.a[0], work.a1
        mix_(torch.bmm(s.k0[p], drawn.Q0, out=work.scores), a)
        scores = torch.bmm(s.k1[p], drawn.S_q1, out=work.scores)
        layer1_scores_(scores, (s.k1[p], s.Mk[p]), s1, a, drawn.P_q1)
        mix_(scores, a1)
        M0, M1 = read_rows(f.up, s.v0[p : p + 1], s.v1[p : p + 1])
        r = s1 * s2
        D = torch.cat([a.mul_(r), a1.mul_(s2)])
        u = upscale.first_convolution(drawn, D, r, torch.cat([M0[0], M1[0]]))
        return upscale.mask_features(u, self.parts.upscaling, drawn.skip)


@dataclass(frozen=True)
class TorchLoop:
    """The backend for what no other serves."""

    in_bulk: bool = False

    def image(self, parts: Parts, folded: Folded, image: ImageSide) -> LoopImage:
        """Return an image's side, ready for prompts."""
        return LoopImage(parts, folded, image)
