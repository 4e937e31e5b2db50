"""The shared-image decoder: SAM's masks with the image side computed once for all prompts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from everything.core import mask_ops
from everything.core.device import sent
from everything.core.protocols import Candidates
from everything.decoding.backends.choice import choose_backend
from everything.decoding.backends.protocol import Answers, Backend, BackendImage, Limits
from everything.decoding.decoder_parts import Parts, Stacked, UnlikeSAM, read_sam
from everything.decoding.image_side import Cells, ImageSide, image_side
from everything.decoding.prompt_encoding import encode_sam
from everything.decoding.protocols import Decoder, PreparedImage
from everything.decoding.reference import PlainDecoder, PlainImage, numbered
from everything.decoding.transformer import Solved
from everything.decoding.weight_folding import Folded, fold

LOOKED_AT = 64  # masks that are drawn at a time to choose by their pixels
DEFAULT_LIMITS = Limits()
NOT_DRAWN = -32.0  # logit of cells outside the content: SAM 2's lowest, surely no mask


@dataclass(frozen=True)
class SharedImage:
    """An image ready for prompts. It is not changed by them and may be used from several threads.

    encode: makes prompt tokens (P, T', C) of points and labels. plain: the same image for the
    plain decoder, which answers what the shared one cannot. side: the same image for the backend.
    """

    parts: Parts
    folded: Folded
    image: ImageSide
    encode: Callable[[Tensor, Tensor], Tensor]
    plain: PreparedImage
    side: BackendImage

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
        solved = self.side.solve(tokens)
        scores = parts.iou_head(solved.tokens[:, parts.iou_at])[:, slots.start : slots.stop]
        return SharedCandidates(*numbered(scores), self, solved, slots)


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
        solved = self.solved.rows(at)
        hyper = self.hypernetworks(solved.tokens)
        logits = hyper.new_empty(len(rows), 4 * height, 4 * width)
        bottom, right = 4 * drawn.cells[0], 4 * drawn.cells[1]
        logits[:, bottom:] = NOT_DRAWN
        logits[:, :bottom, right:] = NOT_DRAWN
        answers = Answers(of, level)
        self.image.side.draw(solved, hyper, answers, order, logits)
        return logits

    def hypernetworks(self, tokens: Tensor) -> Tensor:
        """Return the mask features' weights (P, M, G) of all answers to prompts with tokens
        (P, T, C) after the transformer, wanted or not: to pick the tokens of each network, a device
        would have to be waited for."""
        parts = self.image.parts
        if parts.stacked is not None:
            first = parts.masks_at + self.slots.start
            return parts.stacked(tokens[:, first : first + len(self.slots)], self.slots)
        networks = [(parts.hypernetworks[i], parts.masks_at + i) for i in self.slots]
        return torch.stack([network(tokens[:, token]) for network, token in networks], 1)


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
            mask_ops.stability(among.draw(rows), offset) for rows in torch.split(first, LOOKED_AT)
        ]
        best = first + 1 + scores[:, 1:].argmax(1)
        rows = torch.where(torch.cat(stability).cpu() < enough, best, first)
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
    backend: Backend

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        prompt_encoder: nn.Module,
        mask_decoder: nn.Module,
        kernels: str = "auto",
        compile: bool = False,
        limits: Limits = DEFAULT_LIMITS,
        read: Callable[[nn.Module], Parts] = read_sam,
    ) -> SharedImageDecoder:
        """Return the decoder of two modules.

        Args:
            prompt_encoder: SAM's, or one with its interface.
            mask_decoder: SAM's, or one with its structure.
            kernels: See `Compute.kernels`.
            compile: See `Compute.compile`.
            limits: What an accelerator is given at a time.
            read: Reads the parts of the mask decoder.

        Raises:
            UnlikeSAM: The modules' structure differs from SAM's.
            ConfigError: The kernels that are wished for do not serve it.
        """
        encoder: Any = prompt_encoder
        parts = read(mask_decoder)
        if parts.tokens.device.type != "cpu":
            parts = replace(parts, stacked=Stacked.of(parts.hypernetworks))
        position = encoder.get_dense_pe()[0].flatten(1).T.to(parts.tokens.dtype)
        folded = fold(parts, position)
        backend = choose_backend(parts, kernels, compile, limits)
        return cls(prompt_encoder, mask_decoder, parts, folded, backend)

    @property
    def in_bulk(self) -> bool:
        """Whether an image takes any number of prompts and masks: see `Backend`."""
        return self.backend.in_bulk

    @torch.no_grad()
    def prepare(
        self, embedding: Tensor, content: Cells | None = None, skip: Tensor | None = None
    ) -> SharedImage:
        """Return an image, embedding (1, C, h, w), ready for prompts.

        content: rows and columns of the embedding, from the top left, that masks are drawn on;
        all by default, and where a norm is over all of them. skip: see DrawnSide.
        """
        encoder: Any = self.prompt_encoder
        grid = (embedding.shape[2], embedding.shape[3])
        X = embedding[0].flatten(1).T
        if hasattr(encoder, "no_mask_embed"):  # EfficientSAM has no mask prompts
            X = X + encoder.no_mask_embed.weight.to(embedding.dtype)
        if self.parts.upscaling.norm.over_map:
            content = grid
        image = image_side(self.parts, self.folded, X, grid, content or grid)
        if skip is not None:
            image = replace(image, drawn=replace(image.drawn, skip=skip))
        plain = PlainImage(self.prompt_encoder, self.mask_decoder, embedding)

        def encode(points: Tensor, labels: Tensor) -> Tensor:
            return encode_sam(self.prompt_encoder, points, labels)[0]

        side = self.backend.image(self.parts, self.folded, image)
        return SharedImage(self.parts, self.folded, image, encode, plain, side)


def choose(
    prompt_encoder: nn.Module,
    mask_decoder: nn.Module,
    plain: bool = False,
    kernels: str = "auto",
    compile: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> Decoder:
    """Return the shared-image decoder if the modules' structure allows it, else the plain one.

    Args:
        prompt_encoder: SAM's, or one with its interface.
        mask_decoder: SAM's, or one with its interface.
        plain: Always return the plain decoder.
        kernels: See `Compute.kernels`.
        compile: See `Compute.compile`.
        limits: What an accelerator is given at a time.

    Raises:
        ConfigError: If the kernels are not available, as `SharedImageDecoder.of` does.
    """
    if not plain:
        with suppress(UnlikeSAM):
            return SharedImageDecoder.of(prompt_encoder, mask_decoder, kernels, compile, limits)
    return PlainDecoder(prompt_encoder, mask_decoder)
