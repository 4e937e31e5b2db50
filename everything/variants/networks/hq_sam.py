"""HQ-SAM (Ke et al., 2023): SAM with one more output token, whose masks are sharper.

The token's mask is made of finer features: SAM's mask features refined by convolutions, with those
of an early map of the image encoder and of the embedding added. SAM's own weights are unchanged.
The early map is that after the first block with global attention, in Light HQ-SAM (TinyViT) that
after the second stage.

Compared with the official code at fb181f8 on the same seeded weights, for clicks, with and without
SAM's mask, one and several asked for: embeddings and early maps of a shallow ViT-B and of TinyViT
differ by at most 5e-6, mask logits by 8e-6, scores by 7e-7; names and shapes are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, Sam, TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.mask_decoder import MLP
from torch import Tensor, nn

from everything.config import Compute, Decoding
from everything.core.device import DEFAULT_DECODING, ON_CPU
from everything.core.geometry import View
from everything.decoding import HqDecoder, Limits, PreparedImage
from everything.variants.checkpoints.hf_keys import HQ_HUGGING_FACE
from everything.variants.checkpoints.key_mapping import Blueprint
from everything.variants.checkpoints.reader import State
from everything.variants.networks import tinyvit
from everything.variants.networks.sam import CANVAS, PIXEL_MEAN, PIXEL_STD, SamBase, prompt_side
from everything.variants.networks.sam import vit as plain_vit

WIDTH = 256  # channels of the embedding and of the decoder
TINY_WIDTH = 160  # channels of TinyViT's early map


class HqVit(ImageEncoderViT):  # type: ignore[misc]  # segment_anything has no types
    """SAM's image encoder, with the map after its first block with global attention."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding (B, 256, h, w) and the early map (B, C, h, w)."""
        x = self.patch_embed(x) + self.pos_embed
        early = None
        for block in self.blocks:
            x = block(x)
            if early is None and block.window_size == 0:
                early = x
        assert early is not None
        return self.neck(x.permute(0, 3, 1, 2)), early.permute(0, 3, 1, 2)


class HqTinyVit(tinyvit.TinyVitEncoder):
    """Light HQ-SAM's image encoder, with the map between its second and third stage."""

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Return the embedding (B, 256, h, w) and the early map (B, 160, h, w)."""
        body = self.body
        first, second, third, last = body.stages
        early = third.downsample(second(first(body.patch_embed(pixels))))
        # A stage's blocks want the channels last.
        x = third.blocks(early.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.neck(last(x)), early


class HqMaskDecoder(MaskDecoder):  # type: ignore[misc]  # segment_anything has no types
    """SAM's mask decoder with the token, its network and the features of its mask.

    early: Channels of the image encoder's early map.
    """

    def __init__(self, early: int) -> None:
        super().__init__(
            transformer_dim=WIDTH,
            transformer=TwoWayTransformer(depth=2, embedding_dim=WIDTH, num_heads=8, mlp_dim=2048),
        )
        features = WIDTH // 8
        self.hf_token = nn.Embedding(1, WIDTH)
        self.hf_mlp = MLP(WIDTH, WIDTH, features, 3)
        self.compress_vit_feat = _enlarged(early, WIDTH)
        self.embedding_encoder = _enlarged(WIDTH, WIDTH // 4)
        self.embedding_maskfeature = nn.Sequential(
            nn.Conv2d(features, WIDTH // 4, 3, padding=1),
            LayerNorm2d(WIDTH // 4),
            nn.GELU(),
            nn.Conv2d(WIDTH // 4, features, 3, padding=1),
        )

    def of_image(self, embedding: Tensor, early: Tensor) -> Tensor:
        """Return the image's share of the token's features, (B, 32, 4 h, 4 w)."""
        features: Tensor = self.embedding_encoder(embedding) + self.compress_vit_feat(early)
        return features

    def forward(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
        hq_features: Tensor,
        hq_token_only: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return a mask for each prompt, logits (P, 1, 4 h, 4 w), and its score (P, 1).

        Arguments as of SAM's; hq_features: from `of_image`. The mask is the token's, unless
        hq_token_only with that of SAM's masks added that has the highest score, or with its single
        one.
        """
        P = len(sparse_prompt_embeddings)
        learned = torch.cat([self.iou_token.weight, self.mask_tokens.weight, self.hf_token.weight])
        tokens = torch.cat([learned.expand(P, -1, -1), sparse_prompt_embeddings], 1)
        image = image_embeddings + dense_prompt_embeddings
        tokens, keys = self.transformer(
            image.expand(P, -1, -1, -1), image_pe.expand(P, -1, -1, -1), tokens
        )
        scores = self.iou_prediction_head(tokens[:, 0])
        features = self.output_upscaling(keys.transpose(1, 2).view(P, *image.shape[1:]))
        refined = self.embedding_maskfeature(features) + hq_features
        masks = torch.einsum(
            "pg,pghw->phw", self.hf_mlp(tokens[:, 1 + self.num_mask_tokens]), refined
        )
        slots = range(1, self.num_mask_tokens) if multimask_output else range(1)
        scores, best = scores[:, slots.start : slots.stop].max(1, keepdim=True)
        if not hq_token_only:
            weights = torch.stack(
                [self.output_hypernetworks_mlps[i](tokens[:, 1 + i]) for i in slots], 1
            )
            chosen = weights.gather(1, best[..., None].expand(-1, 1, weights.shape[2]))[:, 0]
            masks = masks + torch.einsum("pg,pghw->phw", chosen, features)
        return masks[:, None], scores


def _enlarged(channels: int, middle: int) -> nn.Sequential:
    """Two transposed convolutions: (B, channels, h, w) to (B, 32, 4 h, 4 w)."""
    return nn.Sequential(
        nn.ConvTranspose2d(channels, middle, 2, stride=2),
        LayerNorm2d(middle),
        nn.GELU(),
        nn.ConvTranspose2d(middle, WIDTH // 8, 2, stride=2),
    )


class HqSamModel(SamBase):
    """HQ-SAM as a `Model`: one mask for each prompt, whether several are asked for or one.

    Args:
        network: With its weights: see SamBase.
        compute: See SamModel.
        decoding: See SamModel; hq_token_only: SAM's mask is not added to the token's.
    """

    def __init__(
        self, network: Sam, compute: Compute = ON_CPU, decoding: Decoding = DEFAULT_DECODING
    ) -> None:
        super().__init__(network, compute, decoding)
        self.decoder = HqDecoder.of(
            network.prompt_encoder,
            network.mask_decoder,
            token_only=decoding.hq_token_only,
            plain=decoding.decoder == "plain",
            kernels=compute.kernels,
            compile=compute.compile,
            limits=Limits.of(compute, decoding),
        )

    @property
    def in_bulk(self) -> bool:
        """Whether prompts are best given all at a time: see everything/core/protocols.py."""
        return self.decoder.in_bulk

    def encode(self, view: View) -> PreparedImage:
        """Return the decoder's image side of a view."""
        return self.encode_batch([view])[0]

    def encode_batch(self, views: Sequence[View]) -> list[PreparedImage]:
        """Return the decoder's image side of each view, with one run of the image encoder."""
        pixels = torch.cat([self.pixels(view) for view in views])
        embeddings, early = self.network.image_encoder(pixels)
        maps = zip(embeddings.split(1), early.split(1), views, strict=True)
        return [self._prepared(*each) for each in maps]

    def _prepared(self, embedding: Tensor, early: Tensor, view: View) -> PreparedImage:
        hq_features = self.network.mask_decoder.of_image(embedding, early)
        return self.decoder.prepare(embedding, hq_features, self.cells(embedding, view))


def blueprint(*, side: int = CANVAS, **vit: Any) -> Blueprint[Sam]:
    """Return the network without values, for a canvas of `side` px.

    vit: as of `sam.vit`; without any, the image encoder is Light HQ-SAM's.
    """
    with torch.device("meta"):
        encoder = plain_vit(HqVit, side=side, **vit) if vit else HqTinyVit(side)
        decoder = HqMaskDecoder(vit.get("embed_dim", TINY_WIDTH))
        prompt_encoder, _ = prompt_side(side)
    network = Sam(encoder, prompt_encoder, decoder, list(PIXEL_MEAN), list(PIXEL_STD))
    if vit:
        return Blueprint(network, dialects=(HQ_HUGGING_FACE,))
    return Blueprint(network, tinyvit.NAMES)


def build(
    state: State,
    path: str,
    compute: Compute = ON_CPU,
    decoding: Decoding = DEFAULT_DECODING,
    **options: Any,
) -> HqSamModel:
    """Build the model: see `sam.build`. The options are those of `blueprint`."""
    return HqSamModel(blueprint(**options).load(state, path), compute, decoding)
