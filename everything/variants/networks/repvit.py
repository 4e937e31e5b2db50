"""RepViT-SAM and EdgeSAM: SAM behind a RepViT encoder.

RepViT-SAM (Wang et al., 2023) has RepViT-M2.3 with the last stride left out. EdgeSAM (Zhou et
al., 2023) has RepViT-M1 at stride 32, whose last map is enlarged and added to the one before.

Compared with the official encoders on the same seeded weights and pixels: RepViT at 298f420 and
EdgeSAM at b53372c, largest difference 0 each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import timm
import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn
from torch.nn import functional as F

from everything.config import Compute, Decoding
from everything.core import mask_ops
from everything.core.device import DEFAULT_DECODING, ON_CPU, sent
from everything.core.geometry import View
from everything.core.prompts import Prompts
from everything.core.protocols import Candidates
from everything.decoding import PreparedImage
from everything.variants.checkpoints.key_mapping import Blueprint, Table
from everything.variants.checkpoints.reader import State
from everything.variants.networks.sam import CANVAS, SamModel, joined, neck

REPVIT_SAM, EDGESAM = "repvit_m2_3", "repvit_m1"
STABILITY_OFFSET = 1.0  # of EdgeSAM's scores, in logits


class RepVitEncoder(nn.Module):
    """RepViT with a stride of 16 and SAM's neck: (B, 3, s, s) to (B, 256, s / 16, s / 16)."""

    def __init__(self, body: str, side: int) -> None:
        super().__init__()
        self.img_size = side
        self.body = cast(Any, timm.create_model(body, num_classes=0))
        self.body.stages[3].downsample.spatial_downsample.c.stride = (1, 1)
        self.neck = neck(self.body.num_features)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the embedding."""
        embedding: Tensor = self.neck(self.body.forward_features(pixels))
        return embedding


class FusedRepVitEncoder(nn.Module):
    """EdgeSAM's encoder: the maps at strides 16 and 32 of a RepViT, added at stride 16.

    (B, 3, s, s) to (B, 256, s / 16, s / 16).
    """

    def __init__(self, body: str, side: int) -> None:
        super().__init__()
        self.img_size = side
        self.body = cast(Any, timm.create_model(body, num_classes=0))
        middle = self.body.stages[3].downsample.channel_downsample.c.in_channels
        self.fuse_stage2 = nn.Conv2d(middle, 256, 1, bias=False)
        self.fuse_stage3 = nn.Conv2d(self.body.num_features, 256, 1, bias=False)
        self.neck = neck(256)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the embedding."""
        body = self.body
        fine = body.stages[2](body.stages[1](body.stages[0](body.stem(pixels))))
        # The tap lies after the block that timm counts to the downsampling.
        down = body.stages[3].downsample
        fine = down.pre_block(fine)
        coarse = down.channel_downsample(down.spatial_downsample(fine))
        coarse = body.stages[3].blocks(coarse + down.ffn(coarse))
        enlarged = F.interpolate(self.fuse_stage3(coarse), scale_factor=2, mode="bicubic")
        embedding: Tensor = self.neck(self.fuse_stage2(fine) + enlarged)
        return embedding


@dataclass(frozen=True)
class StabilityScoredCandidates:
    """Candidate masks whose score is their stability at the decoder's own resolution.

    EdgeSAM did not distil the token that predicts IoU, so its mask generator puts stability in
    its place. logits: float32 (N, hl, wl) over the canvas; the other fields as of `Candidates`.
    """

    logits: Tensor
    scores: Tensor
    prompt: Tensor
    level: Tensor
    identity: Tensor

    @classmethod
    def of(cls, candidates: Candidates) -> StabilityScoredCandidates:
        """Return the same candidates, drawn and scored by their stability."""
        logits = candidates.draw(torch.arange(len(candidates.scores)))
        # The stability of an empty mask is 0 / 0: its score is 0.
        scores = mask_ops.stability(logits, STABILITY_OFFSET).nan_to_num(0.0).cpu()
        return cls(logits, scores, candidates.prompt, candidates.level, candidates.identity)

    def draw(self, rows: Tensor) -> Tensor:
        """Return the logits (K, hl, wl) of rows int64 (K,), in order."""
        return self.logits[sent(rows, self.logits.device)]


class EdgeSamModel(SamModel):
    """EdgeSAM: masks are scored by their stability."""

    in_bulk = False  # its scores are of masks that are drawn, which would have to be held

    def prepared(self, embedding: Tensor, view: View) -> PreparedImage:
        """Return the decoder's image side of a view, padding drawn too: it counts in the score."""
        return self.decoder.prepare(embedding)

    def propose(
        self, embedding: PreparedImage, prompts: Prompts, multimask_output: bool
    ) -> StabilityScoredCandidates:
        """Return the candidate masks of prompts (P rows, canvas px)."""
        return StabilityScoredCandidates.of(super().propose(embedding, prompts, multimask_output))


def names(body: Any) -> Table:
    """Return the table of names for a RepViT of timm: the checkpoint numbers all blocks through."""
    blocks, number = [], 1
    for k, stage in enumerate(body.stages.children()):
        if k > 0:
            down = rf"\.stages\.{k}\.downsample\."
            blocks += [
                (rf"{down}pre_block\.", f".features.{number}."),
                (rf"{down}spatial_downsample\.", f".features.{number + 1}.token_mixer.0."),
                (rf"{down}channel_downsample\.", f".features.{number + 1}.token_mixer.2."),
                (rf"{down}ffn\.", f".features.{number + 1}.channel_mixer."),
            ]
            number += 2
        for i in range(len(stage.blocks)):
            blocks.append((rf"\.stages\.{k}\.blocks\.{i}\.", f".features.{number}."))
            number += 1
    return (
        (r"\.token_mixer\.", ".token_mixer.0."),
        (r"\.se\.", ".token_mixer.1."),
        *blocks,
        (r"\.channel_mixer\.conv1\.", ".channel_mixer.m.0."),
        (r"\.channel_mixer\.conv2\.", ".channel_mixer.m.2."),
        (r"\.stem\.conv1\.", ".features.0.0."),
        (r"\.stem\.conv2\.", ".features.0.2."),
        (r"^image_encoder\.body\.", "image_encoder."),
        (r"\.fuse_stage3\.", ".fuse_stage3.op_list.0."),
    )


def blueprint(body: str, side: int = CANVAS) -> Blueprint[Sam]:
    """Return the network without values, for a canvas of `side` px.

    body: timm's name, REPVIT_SAM or EDGESAM.
    """
    kind = FusedRepVitEncoder if body == EDGESAM else RepVitEncoder
    with torch.device("meta"):
        encoder = kind(body, side)
    return Blueprint(joined(encoder, side), names(encoder.body))


def build(
    state: State,
    path: str,
    compute: Compute = ON_CPU,
    decoding: Decoding = DEFAULT_DECODING,
    *,
    body: str,
    **options: Any,
) -> SamModel:
    """Build the model: see `sam.build`. The options are those of `blueprint`."""
    kind = EdgeSamModel if body == EDGESAM else SamModel
    return kind(blueprint(body, **options).load(state, path), compute, decoding)
