"""HQ-SAM's decoder: one more token, whose mask sees finer features.

The token runs through the transformer like a mask token, so the shared image side serves it as it
is. Its mask is the product of its network's weights w with other features than SAM's masks have,

    w · (E(U) + H),

where U are the mask features of a prompt, E is a 3 x 3 convolution, a norm, GELU and another
3 x 3 convolution (`embedding_maskfeature`), and H is the image's alone: it is made of an early map
of the image encoder and of the embedding. U is drawn as if by G answers whose weights are unit
vectors. Of the second convolution only the combination w is computed: one output instead of G.

A prompt has one mask: the token's logits, with those of SAM's best mask added. As in the official
code the best is that of the highest score where several are asked for, else SAM's single one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from everything.core.device import sent
from everything.core.protocols import Candidates
from everything.decoding.backends.protocol import Answers, Limits
from everything.decoding.decoder_parts import Network, Parts, UnlikeSAM, read_sam
from everything.decoding.image_side import Cells
from everything.decoding.prompt_encoding import encode_sam
from everything.decoding.protocols import PreparedImage
from everything.decoding.reference import PlainCandidates, numbered
from everything.decoding.shared_image import (
    DEFAULT_LIMITS,
    NOT_DRAWN,
    SharedCandidates,
    SharedImage,
    SharedImageDecoder,
)

TOGETHER = 4  # prompts whose features exist at a time: 60 MB each


def read_hq(mask_decoder: nn.Module) -> Parts:
    """Return the parts of HQ-SAM's mask decoder: those of SAM's, with the token as the last one.

    Raises UnlikeSAM, saying what differs.
    """
    m: Any = mask_decoder
    parts = read_sam(mask_decoder)
    try:
        kinds = [type(layer).__name__ for layer in m.embedding_maskfeature]
        if kinds != ["Conv2d", "LayerNorm2d", "GELU", "Conv2d"]:
            raise UnlikeSAM(f"the mask features are refined by {', '.join(kinds)}")
        tokens = torch.cat([parts.tokens, m.hf_token.weight.detach()])
        return replace(parts, tokens=tokens)
    except AttributeError as error:
        raise UnlikeSAM(f"{type(mask_decoder).__name__}: {error}") from error


@dataclass(frozen=True)
class PlainHqImage:
    """An embedding (1, C, h, w), H (1, G, 4 h, 4 w), and the modules that decode prompts on them.

    token_only: SAM's mask is not added.
    """

    prompt_encoder: nn.Module
    mask_decoder: nn.Module
    embedding: Tensor
    hq_features: Tensor
    token_only: bool = False

    @torch.no_grad()
    def propose(
        self, points: Tensor, labels: Tensor, multimask_output: bool, masks: Tensor | None = None
    ) -> PlainCandidates:
        """Return the candidates of P prompts; arguments and errors are those of `encode_sam`."""
        sparse, dense = encode_sam(self.prompt_encoder, points, labels, masks)
        encoder: Any = self.prompt_encoder
        dtype = self.embedding.dtype
        logits, scores = self.mask_decoder(
            image_embeddings=self.embedding,
            image_pe=encoder.get_dense_pe().to(dtype),
            sparse_prompt_embeddings=sparse.to(dtype),
            dense_prompt_embeddings=dense.to(dtype),
            multimask_output=multimask_output,
            hq_features=self.hq_features,
            hq_token_only=self.token_only,
        )
        return PlainCandidates(*numbered(scores), logits.flatten(0, 1))


@dataclass(frozen=True)
class Refinement:
    """What makes the mask of the token: its row among the tokens, its network, and E."""

    token_at: int
    network: Network
    first: Callable[[Tensor], Tensor]
    last: nn.Conv2d

    @classmethod
    def of(cls, mask_decoder: Any, parts: Parts) -> Refinement:
        """Return that of a mask decoder; parts: as `read_hq` reads them."""
        head = mask_decoder.embedding_maskfeature
        return cls(len(parts.tokens) - 1, mask_decoder.hf_mlp, head[:3], head[3])

    def __call__(self, U: Tensor, tokens: Tensor, hq_features: Tensor) -> Tensor:
        """Return the token's logits (K, h, w), for U (K, G, h, w), tokens (K, T, C) after the
        transformer, and H (1, G, h, w)."""
        w = self.network(tokens[:, self.token_at])
        x = self.first(U).flatten(2)
        # F.fold adds each tap's products where they belong, in the other direction.
        kernel = torch.einsum("kg,gfyx->kyxf", w, self.last.weight.flip(2, 3)).flatten(1, 2)
        found = F.fold(kernel @ x, U.shape[2:], 3, padding=1)[:, 0]
        bias = self.last.bias
        if bias is not None:
            found += (w @ bias)[:, None, None]
        return found + (w @ hq_features[0].flatten(1)).view(found.shape)


@dataclass(frozen=True)
class SharedHqImage:
    """An image ready for prompts.

    image: SAM's side, drawn on one cell more than is wanted, which the convolutions look at.
    content: rows and columns of the embedding that masks are wanted on. hq_features: H of the cells
    that are drawn.
    """

    image: SharedImage
    refinement: Refinement
    hq_features: Tensor
    content: Cells
    token_only: bool

    @property
    def embedding(self) -> Tensor:
        """The image encoder's embedding, (1, C, h, w) over the canvas."""
        return self.image.embedding

    @torch.no_grad()
    def propose(
        self, points: Tensor, labels: Tensor, multimask_output: bool, masks: Tensor | None = None
    ) -> Candidates:
        """Return a candidate for each of P prompts, scored but not drawn; arguments as of
        PreparedImage. The plain decoder answers prompts with masks, as in SharedImage."""
        if masks is not None:
            return self.image.plain.propose(points, labels, multimask_output, masks)
        image = self.image
        count = len(image.parts.hypernetworks)
        sparse = image.encode(points, labels).to(image.image.n0.dtype)
        slots = range(1, count) if multimask_output else range(1)
        return HqCandidates.of(image.answer(sparse, slots), self)


@dataclass(frozen=True)
class HqCandidates:
    """One candidate for each prompt: see `Candidates` for the fields.

    sam: SAM's answers; slots int64 (P,): which of them is the best.
    """

    scores: Tensor
    prompt: Tensor
    level: Tensor
    identity: Tensor
    sam: SharedCandidates
    slots: Tensor
    image: SharedHqImage

    @classmethod
    def of(cls, sam: SharedCandidates, image: SharedHqImage) -> HqCandidates:
        """Return the candidates of prompts for which SAM's answers are known."""
        scores, slots = sam.scores.view(-1, len(sam.slots)).max(1)
        number = torch.arange(len(scores))
        return cls(scores, number, torch.zeros_like(number), number, sam, slots, image)

    @torch.no_grad()
    def draw(self, rows: Tensor) -> Tensor:
        """Return the logits (K, 4 h, 4 w) of rows int64 (K,), in order.

        Cells outside the content are NOT_DRAWN.
        """
        (height, width), tokens = self.sam.image.image.drawn.grid, self.sam.solved.tokens
        bottom, right = (4 * cells for cells in self.image.content)
        logits = tokens.new_full((len(rows), 4 * height, 4 * width), NOT_DRAWN)
        for some, out in zip(*(torch.split(x, TOGETHER) for x in (rows, logits)), strict=True):
            out[:, :bottom, :right] = self._drawn(some)[:, :bottom, :right]
        return logits

    def _drawn(self, rows: Tensor) -> Tensor:
        """Logits (K, 4 r, 4 c) of rows (K,), which are prompts, on the r x c cells drawn."""
        solved, device = self.sam.solved, self.sam.solved.tokens.device
        at = sent(rows, device)
        U = self._features(at)
        found = self.image.refinement(U, solved.tokens[at], self.image.hq_features)
        if self.image.token_only:
            return found
        weights = self.sam.hypernetworks(self.sam.solved.tokens[at])
        best = sent(self.slots[rows], device)[:, None, None].expand(-1, 1, weights.shape[2])
        return found + (weights.gather(1, best) @ U.flatten(2)).view(found.shape)

    def _features(self, prompts: Tensor) -> Tensor:
        """The mask features (K, G, 4 r, 4 c) of prompts (K,)."""
        image = self.sam.image
        drawn, G = image.image.drawn, image.parts.upscaling.second.out_channels
        (height, width), (r, c) = drawn.grid, drawn.cells
        K, number = len(prompts), torch.arange(len(prompts) * G)
        units = torch.eye(G, dtype=drawn.Q0.dtype, device=prompts.device).expand(K, G, G)
        out = units.new_empty(K * G, 4 * height, 4 * width)
        answers = Answers(number // G, number % G)
        image.side.draw(self.sam.solved.rows(prompts), units, answers, number, out)
        return torch.unflatten(out, 0, (K, G))[..., : 4 * r, : 4 * c]


@dataclass(frozen=True)
class HqDecoder:
    """The decoder of HQ-SAM: exact, with the image side computed once, or plain.

    shared: None for the plain decoder.
    """

    prompt_encoder: nn.Module
    mask_decoder: nn.Module
    token_only: bool
    shared: SharedImageDecoder | None

    @classmethod
    def of(
        cls,
        prompt_encoder: nn.Module,
        mask_decoder: nn.Module,
        token_only: bool = False,
        plain: bool = False,
        kernels: str = "auto",
        compile: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> HqDecoder:
        """Return the decoder of two modules.

        Args:
            prompt_encoder: SAM's.
            mask_decoder: HQ-SAM's.
            token_only: Do not add SAM's mask.
            plain: Call the modules as they are.
            kernels: See `Compute.kernels`.
            compile: See `Compute.compile`.
            limits: What an accelerator is given at a time.

        Raises:
            UnlikeSAM: The modules' structure differs from HQ-SAM's.
            ConfigError: The kernels that are wished for do not serve it.
        """
        modules = prompt_encoder, mask_decoder
        if plain:
            return cls(*modules, token_only, None)
        shared = SharedImageDecoder.of(*modules, kernels, compile, limits, read_hq)
        return cls(*modules, token_only, shared)

    @property
    def in_bulk(self) -> bool:
        """Whether an image takes any number of prompts and masks: see `Backend`."""
        return self.shared is not None and self.shared.in_bulk

    @torch.no_grad()
    def prepare(
        self, embedding: Tensor, hq_features: Tensor, content: Cells | None = None
    ) -> PreparedImage:
        """Return an image ready for prompts.

        embedding (1, C, h, w); hq_features: H, (1, G, 4 h, 4 w). content: rows and columns of the
        embedding, from the top left, that masks are drawn on; all by default.
        """
        modules = self.prompt_encoder, self.mask_decoder
        plain = PlainHqImage(*modules, embedding, hq_features, self.token_only)
        if self.shared is None:
            return plain
        rows, columns = embedding.shape[2:]
        content = content or (rows, columns)
        wider = min(content[0] + 1, rows), min(content[1] + 1, columns)
        image = replace(self.shared.prepare(embedding, wider), plain=plain)
        refinement = Refinement.of(self.mask_decoder, self.shared.parts)
        H = hq_features[..., : 4 * wider[0], : 4 * wider[1]]
        return SharedHqImage(image, refinement, H, content, self.token_only)
