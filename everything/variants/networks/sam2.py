"""SAM 2 and 2.1 for still images (Ravi et al., 2024): Hiera encoder, decoder with fine features.

The network is transformers' `Sam2Model`; the memory, which only videos need, is not loaded. As in
the official image predictor the object score is not looked at, a box is two points before all
others, and every prompt ends with a padding point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from everything.config import Compute, Decoding
from everything.core.device import DEFAULT_DECODING, ON_CPU, device_of, sent
from everything.core.geometry import Frame, Size, View, stretched_frame
from everything.core.prompts import BOTTOM_RIGHT, TOP_LEFT, Prompts
from everything.core.protocols import Candidates
from everything.decoding import (
    Limits,
    PlainCandidates,
    PlainSam2Image,
    PreparedImage,
    SharedSam2Decoder,
)
from everything.decoding.image_side import Skips
from everything.errors import ConfigError
from everything.variants.checkpoints.key_mapping import Blueprint, Dialect
from everything.variants.checkpoints.reader import State
from everything.variants.networks.encoder_settings import configure_encoder

CANVAS = 1024  # px
PIXEL_MEAN = (0.485, 0.456, 0.406)  # ImageNet's, of [0, 1]
PIXEL_STD = (0.229, 0.224, 0.225)

MOST_SURE = 32.0  # bound of the logits of mask prompts

UNUSED = (
    "memory_attention.",
    "memory_encoder.",
    "maskmem_tpos_enc",
    "mask_downsample.",
    "no_mem_pos_enc",
    "no_obj_",
    "obj_ptr_",
)
# As transformers saves it: its own names, with the memory's.
HUGGING_FACE = Dialect(
    names=(),
    unused=(
        "mask_downsample.",
        "memory_",
        "no_memory_positional_encoding",
        "no_object_pointer",
        "object_pointer_proj.",
        "occlusion_spatial_embedding_parameter",
        "temporal_positional_encoding_projection_layer.",
    ),
)
NAMES = (
    (r"^no_memory_embedding$", "no_mem_embed"),
    (r"^vision_encoder\.backbone\.", "image_encoder.trunk."),
    (r"^vision_encoder\.neck\.convs\.(\d+)\.", r"image_encoder.neck.convs.\1.conv."),
    (r"\.patch_embed\.projection\.", ".patch_embed.proj."),
    # One matrix: the checkpoint has it once, the library for points and for the grid.
    (r"^shared_image_embedding\.", "prompt_encoder.shared_embedding."),
    (r"\.shared_embedding\.positional_embedding", ".pe_layer.positional_encoding_gaussian_matrix"),
    (r"\.point_embed\.", ".point_embeddings.*."),
    (r"\.mask_embed\.conv1\.", ".mask_downscaling.0."),
    (r"\.mask_embed\.layer_norm1\.", ".mask_downscaling.1."),
    (r"\.mask_embed\.conv2\.", ".mask_downscaling.3."),
    (r"\.mask_embed\.layer_norm2\.", ".mask_downscaling.4."),
    (r"\.mask_embed\.conv3\.", ".mask_downscaling.6."),
    (r"\.upscale_conv1\.", ".output_upscaling.0."),
    (r"\.upscale_layer_norm\.", ".output_upscaling.1."),
    (r"\.upscale_conv2\.", ".output_upscaling.3."),
    (r"(_head|_mlps\.\d+)\.proj_out\.", r"\1.layers.2."),
    (r"(_head|_mlps\.\d+)\.layers\.0\.", r"\1.layers.1."),
    (r"(_head|_mlps\.\d+)\.proj_in\.", r"\1.layers.0."),
    (r"\.mlp\.proj_in\.", ".mlp.layers.0."),
    (r"\.mlp\.proj_out\.", ".mlp.layers.1."),
    (r"\.o_proj\.", ".out_proj."),
    (r"\.layer_norm(\d|_final_attn)\.", r".norm\1."),
    (r"^(prompt_encoder|mask_decoder)\.", r"sam_\1."),
)


class Sam2StillModel:
    """transformers' `Sam2Model` as a `Model`.

    A view is stretched to the square canvas. Predicted IoU is in [0, 1], unlike SAM's.

    Args:
        network: With its weights; it is moved to the device and frozen.
        compute: Device, the image encoder's precision, and kernels.
        decoding: With decoder "plain" the authors' code decodes, with a copy of the image's tokens
            for each prompt; use_m2m: every candidate is decoded once more, see `decoded_again`.
    """

    def __init__(
        self, network: Any, compute: Compute = ON_CPU, decoding: Decoding = DEFAULT_DECODING
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.network.to(device_of(compute))
        self.side = network.prompt_encoder.input_image_size
        self.decoder = None
        self.use_m2m = decoding.use_m2m
        if decoding.decoder != "plain":
            parts = self._decoder_parts()
            limits = Limits.of(compute, decoding)
            self.decoder = SharedSam2Decoder.of(*parts, compute.kernels, compute.compile, limits)
        configure_encoder(network.vision_encoder, compute)

    @property
    def in_bulk(self) -> bool:
        """Whether prompts are best given all at a time: see everything/core/protocols.py."""
        # What is decoded again is drawn, and would have to be held.
        return self.decoder is not None and self.decoder.in_bulk and not self.use_m2m

    def frame(self, view: Size) -> Frame:
        """Return where a view of (h, w) px lies on the canvas: all over it."""
        return stretched_frame(view, self.side)

    def encode(self, view: View) -> PreparedImage:
        """Return the decoder's image side of a view."""
        return self.encode_batch([view])[0]

    def encode_batch(self, views: Sequence[View]) -> list[PreparedImage]:
        """Return the decoder's image side of each view, with one run of the image encoder."""
        pixels = torch.cat([self.pixels(view) for view in views])
        scales = self.network.get_image_embeddings(pixels)
        each = zip(*(maps.split(1) for maps in scales), strict=True)
        return [self._prepared(embedding, (fine, middle)) for fine, middle, embedding in each]

    def _prepared(self, embedding: Tensor, fine: Skips | None) -> PreparedImage:
        if self.decoder is None:
            return PlainSam2Image(*self._decoder_parts(), embedding, fine)
        return self.decoder.prepare(embedding, fine)

    def features(self, embedding: PreparedImage) -> Tensor:
        """Return the image encoder's embedding, (1, C, h, w) over the canvas."""
        return embedding.embedding

    def propose(
        self, embedding: PreparedImage, prompts: Prompts, multimask_output: bool
    ) -> Candidates:
        """Return the candidate masks of prompts (P rows, canvas px)."""
        points, labels = boxes_first(prompts.points, prompts.labels)
        found = embedding.propose(points.float(), labels, multimask_output)
        return decoded_again(found, embedding, points.float(), labels) if self.use_m2m else found

    def pixels(self, view: View) -> Tensor:
        """Return a view as the encoder takes it: stretched, float32 (1, 3, side, side)."""
        size = (self.side, self.side)
        bytes_ = sent(torch.from_numpy(view.pixels.copy()), self.network.device)
        pixels = bytes_.permute(2, 0, 1)[None]
        resized = F.interpolate(pixels / 255, size, mode="bilinear", antialias=True)
        return normalised(resized)

    def _decoder_parts(self) -> tuple[nn.Module, nn.Module, Tensor]:
        network = self.network
        position = network.get_image_wide_positional_embeddings()
        return network.prompt_encoder, network.mask_decoder, position


def normalised(pixels: Tensor) -> Tensor:
    """Return pixels (B, 3, h, w) in [0, 1], normalised by ImageNet's mean and deviation."""
    constants = torch.tensor([PIXEL_MEAN, PIXEL_STD], dtype=pixels.dtype)
    mean, deviation = sent(constants, pixels.device)[..., None, None]
    found: Tensor = (pixels - mean) / deviation
    return found


def decoded_again(
    found: Candidates, image: PreparedImage, points: Tensor, labels: Tensor
) -> Candidates:
    """Return candidates after one more step: each is the single answer to its own prompt,
    (P, K, 2) and (P, K), and to itself as a mask prompt (`use_m2m` of SAM2AutomaticMaskGenerator).
    """
    masks = found.draw(torch.arange(len(found.scores))).clamp(-MOST_SURE, MOST_SURE)
    again = image.propose(points[found.prompt], labels[found.prompt], False, masks[:, None])
    assert isinstance(again, PlainCandidates)
    return replace(again, prompt=found.prompt, level=found.level)


def boxes_first(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same prompts, (P, K, 2) and (P, K), with the corners of boxes first."""
    corner = (labels == TOP_LEFT) | (labels == BOTTOM_RIGHT)
    order = (~corner).long().argsort(dim=1, stable=True)
    return points.gather(1, order[..., None].expand_as(points)), labels.gather(1, order)


def blueprint(
    *,
    embed_dim: int,
    heads: int,
    stages: tuple[int, ...],
    global_blocks: tuple[int, ...],
    windows: tuple[int, ...] = (8, 4, 14, 7),
    background: tuple[int, int] = (7, 7),
    side: int = CANVAS,
) -> Blueprint[nn.Module]:
    """Return the network without values, for a canvas of `side` px.

    embed_dim, heads: of Hiera's first stage, doubled at each of the next. stages: blocks in each.
    global_blocks: those whose attention has no window. background: of the position embedding.
    Raises ConfigError if transformers is not installed.
    """
    try:
        from transformers import Sam2Config, Sam2HieraDetConfig, Sam2Model, Sam2VisionConfig
    except ImportError as error:
        raise ConfigError(
            "SAM 2 needs the package transformers: pip install transformers"
        ) from error
    widths = [embed_dim * 2**k for k in range(4)]
    hiera = Sam2HieraDetConfig(
        hidden_size=embed_dim,
        num_attention_heads=heads,
        image_size=[side, side],
        blocks_per_stage=list(stages),
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[heads * 2**k for k in range(4)],
        window_size_per_stage=list(windows),
        global_attention_blocks=list(global_blocks),
        window_positional_embedding_background_size=list(background),
    )
    vision = Sam2VisionConfig(
        backbone_config=hiera,
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=[[side // step, side // step] for step in (4, 8, 16)],
    )
    config = Sam2Config(vision_config=vision, prompt_encoder_config={"image_size": side})
    with torch.device("meta"):
        return Blueprint(Sam2Model(config), NAMES, UNUSED, (HUGGING_FACE,))


def build(
    state: State,
    path: str,
    compute: Compute = ON_CPU,
    decoding: Decoding = DEFAULT_DECODING,
    **options: Any,
) -> Sam2StillModel:
    """Build the model: see `sam.build`. The options are those of `blueprint`.

    Raises:
        ConfigError: Also if transformers is not installed.
    """
    return Sam2StillModel(blueprint(**options).load(state, path), compute, decoding)
