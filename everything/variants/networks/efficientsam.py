"""EfficientSAM (Xiong et al., 2023): a plain ViT taught by SAM's features, and its own decoder.

The decoder has SAM's shape with differences, all made here out of SAM's parts: every prompt is six
points, missing ones stand at (-1, -1) with an embedding of their own; a background click has no
embedding besides its position; there is no mask prompt; self-attention always keeps a residual,
positions included; norms are over the whole map, activations GELU.

Compared with the official network at d525f62 on the same seeded weights and image, for clicks,
boxes and both: embeddings and full-size mask logits differ by at most 4e-6, scores by 4e-7.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from segment_anything.modeling import MaskDecoder, Sam, TwoWayTransformer
from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom
from segment_anything.modeling.transformer import Attention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from everything.config import Compute, Decoding
from everything.core.device import DEFAULT_DECODING, ON_CPU, sent
from everything.core.geometry import Frame, Size, View, stretched_frame
from everything.core.prompts import BOTTOM_RIGHT, INSIDE, PADDING, TOP_LEFT
from everything.variants.checkpoints.key_mapping import Blueprint
from everything.variants.checkpoints.reader import State
from everything.variants.networks.sam import CANVAS, PIXEL_MEAN, PIXEL_STD, SamModel, neck

POINTS = 6  # of every prompt
WIDTH, PATCH, TRAINED_GRID = 256, 16, 14

NAMES = (
    (r"^image_encoder\.body\.", "image_encoder."),
    (r"\.mlp\.lin1\.", ".mlp.layers.0.0."),
    (r"\.mlp\.lin2\.", ".mlp.fc."),
    (r"\.output_upscaling\.([01])\.", r".final_output_upscaling_layers.0.\1."),
    (r"\.output_upscaling\.3\.", ".final_output_upscaling_layers.1.0."),
    (r"(_head|_mlps\.\d+)\.2\.", r"\1.layers.1.0."),
    (r"(_head|_mlps\.\d+)\.0\.", r"\1.layers.0.0."),
    (r"(_head|_mlps\.\d+)\.4\.", r"\1.fc."),
)


class PlainViT(nn.Module):
    """A ViT with global attention and SAM's neck: (B, 3, s, s) to (B, 256, s / 16, s / 16)."""

    def __init__(self, side: int, embed_dim: int, heads: int, depth: int) -> None:
        super().__init__()
        self.img_size = side
        self.grid = side // PATCH
        self.body = cast(
            Any,
            VisionTransformer(
                img_size=side,
                patch_size=PATCH,
                embed_dim=embed_dim,
                depth=depth,
                num_heads=heads,
                num_classes=0,
                global_pool="",
                class_token=False,
                pos_embed="none",
                final_norm=False,
            ),
        )
        # As trained at 224 px, with the place of a class token in front.
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + TRAINED_GRID**2, embed_dim))
        self.neck = neck(embed_dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the embedding."""
        positions = stretched(self.pos_embed, self.grid).flatten(2).transpose(1, 2)
        tokens = self.body.blocks(self.body.patch_embed(pixels) + positions)
        grid = tokens.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        embedding: Tensor = self.neck(grid)
        return embedding


def stretched(pos_embed: Tensor, grid: int) -> Tensor:
    """Return positions trained at 224 px, (1, 1 + 14², C) with a class token's in front, as
    (1, C, grid, grid)."""
    columns = pos_embed[:, 1:].transpose(1, 2)
    trained = columns.reshape(1, -1, TRAINED_GRID, TRAINED_GRID)
    return F.interpolate(trained, (grid, grid), mode="bicubic")


class SixPoints(nn.Module):
    """Prompts to tokens, with the interface of SAM's prompt encoder."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.input_image_size = (side, side)
        self.image_embedding_size = (side // PATCH, side // PATCH)
        self.pe_layer = PositionEmbeddingRandom(WIDTH // 2)
        self.invalid_points = nn.Embedding(1, WIDTH)
        self.point_embeddings = nn.Embedding(1, WIDTH)
        self.bbox_top_left_embeddings = nn.Embedding(1, WIDTH)
        self.bbox_bottom_right_embeddings = nn.Embedding(1, WIDTH)

    def get_dense_pe(self) -> Tensor:
        """Return the positions of the image's cells, (1, 256, h, w)."""
        positions: Tensor = self.pe_layer(self.image_embedding_size)
        return positions[None]

    def forward(
        self,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        masks: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return tokens (P, 6, 256) and the dense embedding, which is 0, of P prompts.

        points: (P, K, 2) canvas px and labels (P, K). boxes: (P, 4) xyxy. Raises ValueError if
        there are mask prompts, or more than six points.
        """
        if masks is not None:
            raise ValueError("EfficientSAM has no mask prompts")
        coordinates, labels = _six(*_as_points(points, boxes))
        tokens = self.pe_layer.forward_with_coords(coordinates + 0.5, self.input_image_size)
        for label, embedding in (
            (PADDING, self.invalid_points),
            (INSIDE, self.point_embeddings),
            (TOP_LEFT, self.bbox_top_left_embeddings),
            (BOTTOM_RIGHT, self.bbox_bottom_right_embeddings),
        ):
            tokens = tokens + (labels == label)[..., None] * embedding.weight
        return tokens, tokens.new_zeros(1, WIDTH, *self.image_embedding_size)


def _as_points(points: tuple[Tensor, Tensor] | None, boxes: Tensor | None) -> tuple[Tensor, Tensor]:
    parts = [] if points is None else [points]
    if boxes is not None:
        corners = sent(torch.tensor([TOP_LEFT, BOTTOM_RIGHT]), boxes.device)
        parts.append((boxes.reshape(-1, 2, 2), corners.expand(len(boxes), 2)))
    return torch.cat([xy for xy, _ in parts], 1), torch.cat([labels for _, labels in parts], 1)


def _six(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    missing = POINTS - labels.shape[1]
    if missing < 0:
        raise ValueError(f"EfficientSAM takes {POINTS} points in a prompt, not {labels.shape[1]}")
    labels = F.pad(labels, (0, missing), value=PADDING)
    points = F.pad(points, (0, 0, 0, missing))
    return points.masked_fill((labels == PADDING)[..., None], -1.0), labels


class _ResidualAttention(Attention):  # type: ignore[misc]  # segment_anything has no types
    """Self-attention of the first layer, where SAM's has no residual: q + attention(q, q, q)."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        attended: Tensor = super().forward(q, q, q)
        return q + attended


class _PositionedAttention(Attention):  # type: ignore[misc]  # segment_anything has no types
    """Self-attention of later layers. SAM adds its output to v, and q is v with positions: so this
    adds q - v, which leaves q + attention(q, q, q)."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        attended: Tensor = super().forward(q, q, q)
        return (q - v) + attended


def _mask_decoder() -> MaskDecoder:
    transformer = TwoWayTransformer(2, WIDTH, 8, 2048, activation=nn.GELU)
    transformer.layers[0].self_attn = _ResidualAttention(WIDTH, 8)
    transformer.layers[1].self_attn = _PositionedAttention(WIDTH, 8)
    decoder = MaskDecoder(transformer_dim=WIDTH, transformer=transformer)
    decoder.output_upscaling[1] = nn.GroupNorm(1, WIDTH // 4)
    decoder.output_hypernetworks_mlps = nn.ModuleList(
        _mlp(WIDTH // 8) for _ in range(decoder.num_mask_tokens)
    )
    decoder.iou_prediction_head = _mlp(decoder.num_mask_tokens)
    return decoder


def _mlp(to: int) -> nn.Sequential:
    hidden = (nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.GELU())
    return nn.Sequential(*hidden, nn.Linear(WIDTH, to))


class EfficientSamModel(SamModel):
    """EfficientSAM: a view is stretched to the square canvas, masks come back bicubically."""

    def placed(self, view: Size, side: int) -> Frame:
        """Return where a view of (h, w) px lies on a canvas of `side` px: all over it."""
        return stretched_frame(view, side, "bicubic")

    def pixels(self, view: View) -> Tensor:
        """Return a view as the encoder takes it: stretched, float32 (1, 3, side, side)."""
        side = self.network.image_encoder.img_size
        bytes_ = sent(torch.from_numpy(view.pixels.copy()), self.network.device)
        pixels = bytes_.permute(2, 0, 1)[None].float()
        resized = F.interpolate(pixels, (side, side), mode="bilinear", align_corners=False)
        normalised: Tensor = (resized - self.network.pixel_mean) / self.network.pixel_std
        return normalised


def blueprint(*, embed_dim: int, heads: int, depth: int = 12, side: int = CANVAS) -> Blueprint[Sam]:
    """Return the network without values, for a canvas of `side` px."""
    with torch.device("meta"):
        encoder, prompts = PlainViT(side, embed_dim, heads, depth), SixPoints(side)
        decoder = _mask_decoder()
    return Blueprint(Sam(encoder, prompts, decoder, list(PIXEL_MEAN), list(PIXEL_STD)), NAMES)


def build(
    state: State,
    path: str,
    compute: Compute = ON_CPU,
    decoding: Decoding = DEFAULT_DECODING,
    **options: Any,
) -> EfficientSamModel:
    """Build the model: see `sam.build`. The options are those of `blueprint`."""
    return EfficientSamModel(blueprint(**options).load(state, path), compute, decoding)
