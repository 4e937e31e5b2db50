"""The shared-image decoder: SAM's masks with the image side computed once for all prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from everything.core import mask_ops
from everything.core.device import sent
from everything.core.protocols import Candidates
from everything.decoding import upscale
from everything.decoding.cpu_kernels import FusedSide, serves
from everything.decoding.decoder_parts import Parts, read_sam
from everything.decoding.gpu_batched import BatchedSide, compiled, filled
from everything.decoding.image_passes import Workspace, layer1_scores_, read_rows
from everything.decoding.image_side import Cells, ImageSide, image_side
from everything.decoding.low_rank import mix_
from everything.decoding.prompt_encoding import encode_sam
from everything.decoding.protocols import PreparedImage
from everything.decoding.reference import PlainImage, numbered
from everything.decoding.transformer import Solved, solve
from everything.decoding.weight_folding import Folded, fold
from everything.kernels import loader

CHUNK = 16  # prompts whose weights are held at once: 13 MB for SAM
BATCH = 64  # prompts in a batch on an accelerator: about 300 MB for SAM
NOT_DRAWN = -32.0  # logit of cells outside the content: SAM 2's lowest, surely no mask


@dataclass(frozen=True)
class SharedImage:
    """An image ready for prompts. It is not changed by them and may be used from several threads.

    encode: makes prompt tokens (P, T', C) of points and labels. plain: the same image for the
    plain decoder, which answers what the shared one cannot. side: the same image for the compiled
    kernels or an accelerator's batches, or None where torch does one prompt after the other.
    """

    parts: Parts
    folded: Folded
    image: ImageSide
    encode: Callable[[Tensor, Tensor], Tensor]
    plain: PreparedImage
    side: FusedSide | BatchedSide | None

    @property
    def embedding(self) -> Tensor:
        """The image encoder's embedding, (1, C, h, w) over the canvas."""
        return self.plain.embedding

    @torch.no_grad()
    def propose(
        self, points: Tensor, labels: Tensor, multimask_output: bool, masks: Tensor | None = None
    ) -> Candidates:
        """Return the candidates of P prompts, scored but not drawn; arguments as of PreparedImage.

        The plain decoder answers prompts with masks, as each of them changes the image side itself.
        """
        if masks is not None:
            return self.plain.propose(points, labels, multimask_output, masks)
        sparse, count = self.encode(points, labels), len(self.parts.hypernetworks)
        sparse = sparse.to(self.image.n0.dtype)
        if multimask_output:
            return self.answer(sparse, range(1, count))
        if self.parts.single_by_looks is None:
            return self.answer(sparse, range(1))
        return ChosenCandidates.of(self.answer(sparse, range(count)), self.parts.single_by_looks)

    @torch.no_grad()
    def answer(self, sparse: Tensor, slots: range) -> SharedCandidates:
        """Return the answers of mask tokens to prompt tokens (P, T', C); P may be 0."""
        parts = self.parts
        learned = parts.tokens.expand(len(sparse), -1, -1)
        tokens = torch.cat([learned, sparse], 1)
        chunks = torch.split(tokens, CHUNK if tokens.device.type == "cpu" else BATCH)
        solved = Solved.cat([self._solved(chunk) for chunk in chunks])
        scores = parts.iou_head(solved.tokens[:, parts.iou_at])[:, slots.start : slots.stop]
        return SharedCandidates(*numbered(scores), self, solved, slots)

    def _solved(self, tokens: Tensor) -> Solved:
        """Prompts' tokens (P, T, C) after the transformer."""
        image = self.parts, self.folded, self.image
        if isinstance(self.side, BatchedSide) and self.side.compiled:
            solved: Solved = compiled(solve)(*image, filled(tokens), self.side)
            return solved.first(len(tokens))
        return solve(*image, tokens, self.side)


@dataclass(frozen=True)
class SharedCandidates:
    """Candidates that are scored but not drawn: see `Candidates` for the fields.

    Holds some 60 kB for each prompt; drawing repeats what it needs of the transformer's image
    side, which is cheaper than keeping it. slots: the mask token of each level.
    """

    scores: Tensor
    prompt: Tensor
    level: Tensor
    identity: Tensor
    image: SharedImage
    solved: Solved
    slots: range

    @torch.no_grad()
    def draw(self, rows: Tensor) -> Tensor:
        """Return the logits (K, 4 h, 4 w) of rows int64 (K,), in order.

        Cells outside the content are NOT_DRAWN.
        """
        drawn, device = self.image.image.drawn, self.solved.tokens.device
        height, width = drawn.grid
        order = torch.argsort(self.prompt[rows], stable=True)
        prompts, of = torch.unique_consecutive(self.prompt[rows][order], return_inverse=True)
        at, level = sent(prompts, device), self.level[rows][order]
        hyper = self._hypernetworks(at)
        logits = hyper.new_empty(len(rows), 4 * height, 4 * width)
        bottom, right = 4 * drawn.cells[0], 4 * drawn.cells[1]
        logits[:, bottom:] = NOT_DRAWN
        logits[:, :bottom, right:] = NOT_DRAWN
        if self.image.side is not None:
            s = self.solved
            each = [x[at] for x in (s.k0, s.v0, s.k1, s.v1, s.Mk, s.s1, s.s2)]
            self.image.side.draw(each, hyper, (of, level), order, logits)
            return logits
        counts = of.bincount().tolist()
        positions, weights = torch.split(order, counts), torch.split(hyper[of, level], counts)
        for p, some, these in zip(prompts.tolist(), positions, weights, strict=True):
            parts = torch.matmul(these, self._features(p))
            for k, position in enumerate(some.tolist()):
                upscale.assemble_(parts[:, :, k], logits[position, :bottom, :right])
        return logits

    def _hypernetworks(self, prompts: Tensor) -> Tensor:
        """The mask features' weights (P, M, G) of all answers to prompts (P,), wanted or not: to
        pick the tokens of each network, a device would have to be waited for."""
        parts, tokens = self.image.parts, self.solved.tokens[prompts]
        networks = [(parts.hypernetworks[i], parts.masks_at + i) for i in self.slots]
        return torch.stack([network(tokens[:, token]) for network, token in networks], 1)

    def _features(self, p: int) -> Tensor:
        """The mask features (4, 4, G, n) of prompt p."""
        f, drawn, s = self.image.folded, self.image.image.drawn, self.solved
        s1, s2 = s.s1[p], s.s2[p]
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
        return upscale.mask_features(u, self.image.parts.upscaling, drawn.skip)


@dataclass(frozen=True)
class ChosenCandidates:
    """One candidate for each prompt, chosen among several: see `Candidates` for the fields.

    rows int64 (P,): of the answers `among` which each is chosen.
    """

    scores: Tensor
    prompt: Tensor
    level: Tensor
    identity: Tensor
    among: SharedCandidates
    rows: Tensor

    @classmethod
    def of(cls, among: SharedCandidates, looks: tuple[float, float]) -> ChosenCandidates:
        """Return the first candidate if its mask is stable enough when drawn, else the best of
        the others by score (SAM 2). looks: see Parts. An empty mask is stable."""
        offset, enough = looks
        scores = among.scores.view(-1, len(among.slots))
        first = torch.arange(len(scores)) * len(among.slots)
        stability = [
            mask_ops.stability(among.draw(rows), offset).cpu() for rows in torch.split(first, BATCH)
        ]
        best = first + 1 + scores[:, 1:].argmax(1)
        rows = torch.where(torch.cat(stability) < enough, best, first)
        number = torch.arange(len(rows))
        return cls(among.scores[rows], number, torch.zeros_like(number), number, among, rows)

    def draw(self, rows: Tensor) -> Tensor:
        """Return the logits (K, 4 h, 4 w) of rows int64 (K,), in order."""
        return self.among.draw(self.rows[rows])


@dataclass(frozen=True)
class SharedImageDecoder:
    """The exact decoder of any prompt encoder and mask decoder with SAM's structure.

    The weights are folded when it is made: changes of the modules after that are not seen.
    """

    prompt_encoder: nn.Module
    mask_decoder: nn.Module
    parts: Parts
    folded: Folded
    fused: bool
    compiled: bool

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        prompt_encoder: nn.Module,
        mask_decoder: nn.Module,
        kernels: str = "auto",
        compile: bool = False,
    ) -> SharedImageDecoder:
        """Return the decoder of two modules. kernels, compile: see Compute.

        Raises UnlikeSAM if the modules' structure differs from SAM's, ConfigError if kernels are
        wished for that do not serve it.
        """
        encoder: Any = prompt_encoder
        parts = read_sam(mask_decoder)
        position = encoder.get_dense_pe()[0].flatten(1).T.to(parts.tokens.dtype)
        folded = fold(parts, position)
        fused = serves(parts, kernels)
        return cls(prompt_encoder, mask_decoder, parts, folded, fused, compile)

    @torch.no_grad()
    def prepare(
        self, embedding: Tensor, content: Cells | None = None, skip: Tensor | None = None
    ) -> SharedImage:
        """Return an image, embedding (1, C, h, w), ready for prompts.

        content: rows and columns of the embedding, from the top left, that masks are drawn on;
        all by default. skip: see DrawnSide.
        """
        encoder: Any = self.prompt_encoder
        grid = (embedding.shape[2], embedding.shape[3])
        dense = encoder.no_mask_embed.weight.to(embedding.dtype)
        X = embedding[0].flatten(1).T + dense
        image = image_side(self.parts, self.folded, X, grid, content or grid)
        if skip is not None:
            image = replace(image, drawn=replace(image.drawn, skip=skip))
        plain = PlainImage(self.prompt_encoder, self.mask_decoder, embedding)

        def encode(points: Tensor, labels: Tensor) -> Tensor:
            return encode_sam(self.prompt_encoder, points, labels)[0]

        side = side_of(self.parts, self.folded, image, self.fused, self.compiled)
        return SharedImage(self.parts, self.folded, image, encode, plain, side)


def side_of(
    parts: Parts, folded: Folded, image: ImageSide, fused: bool, compiled: bool
) -> FusedSide | BatchedSide | None:
    """Return an image's side for what is to work with it: kernels, an accelerator, or neither."""
    if fused and loader.kernels is not None:
        return FusedSide.of(parts, folded, image)
    on_cpu = image.n0.device.type == "cpu"
    return None if on_cpu else BatchedSide(folded, parts.upscaling, image, compiled)
