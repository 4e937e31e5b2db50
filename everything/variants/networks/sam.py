"""SAM, and variants with another image encoder and SAM's prompt encoder and mask decoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

from everything.config import Compute, Decoding
from everything.core.device import DEFAULT_DECODING, ON_CPU, device_of, sent
from everything.core.geometry import Frame, Size, View, padded_frame
from everything.core.prompts import Prompts
from everything.core.protocols import Candidates
from everything.decoding import Cells, Limits, PreparedImage, choose, content_cells
from everything.variants.checkpoints.hf_keys import HUGGING_FACE
from everything.variants.checkpoints.key_mapping import Blueprint
from everything.variants.checkpoints.reader import State
from everything.variants.networks.attention import fuse, unfuse
from everything.variants.networks.encoder_settings import configure_encoder

CANVAS = 1024  # px, of SAM and nearly all that came after it
PIXEL_MEAN = (123.675, 116.28, 103.53)  # ImageNet's, of bytes
PIXEL_STD = (58.395, 57.12, 57.375)


class SamBase:
    """SAM's canvas and image encoder; subclasses have the decoder.

    The canvas is the square that prompts are given in, `prompt_encoder.input_image_size`: the
    view's longest side fills it, the rest is padding, zero after normalisation. The image encoder
    gets that canvas at its own resolution, `image_encoder.img_size`.

    Args:
        network: With its weights; it is moved to the device and frozen.
        compute: Device and the image encoder's precision.
        decoding: With decoder "plain" the image encoder runs as the authors' code does, with a
            matrix of all pairs of tokens in its attention.
    """

    resampling = Image.Resampling.BILINEAR  # of Pillow: antialiased, on bytes, as SAM was trained

    def __init__(self, network: Sam, compute: Compute, decoding: Decoding) -> None:
        self.network = network.eval().requires_grad_(False)
        self.network.to(device_of(compute))
        if isinstance(network.image_encoder, ImageEncoderViT):
            (unfuse if decoding.decoder == "plain" else fuse)(network.image_encoder)
        configure_encoder(network.image_encoder, compute)

    def frame(self, view: Size) -> Frame:
        """Return where a view of (h, w) px lies on the canvas."""
        return self.placed(view, self.network.prompt_encoder.input_image_size[0])

    def placed(self, view: Size, side: int) -> Frame:
        """Return where a view of (h, w) px lies on a canvas of `side` px."""
        return padded_frame(view, side)

    def cells(self, embedding: Tensor, view: View) -> Cells:
        """Return how many rows and columns of an embedding (1, C, h, w) a view's masks need."""
        frame = self.frame(view.size)
        x1, y1 = frame.content[2:]
        return content_cells((y1, x1), frame.canvas, (embedding.shape[2], embedding.shape[3]))

    def features(self, embedding: PreparedImage) -> Tensor:
        """Return the image encoder's embedding, (1, C, h, w) over the canvas."""
        return embedding.embedding

    def propose(
        self, embedding: PreparedImage, prompts: Prompts, multimask_output: bool
    ) -> Candidates:
        """Return the candidate masks of prompts (P rows, canvas px)."""
        return embedding.propose(prompts.points, prompts.labels, multimask_output)

    def pixels(self, view: View) -> Tensor:
        """Return a view as the encoder takes it: normalised, padded, float32 (1, 3, side, side)."""
        side = self.network.image_encoder.img_size
        _, _, width, height = self.placed(view.size, side).content
        resized = Image.fromarray(view.pixels).resize((width, height), self.resampling)
        pixels = sent(torch.from_numpy(np.array(resized)), self.network.device).permute(2, 0, 1)
        normalised = (pixels - self.network.pixel_mean) / self.network.pixel_std
        return F.pad(normalised, (0, side - width, 0, side - height))[None]


class SamModel(SamBase):
    """A network of segment_anything's class `Sam` as a `Model`.

    Args:
        network: See SamBase.
        compute: Also the kernels.
        decoding: With decoder "plain" the model runs as the authors' code does, also with a copy of
            the image's tokens for each prompt.
    """

    def __init__(
        self, network: Sam, compute: Compute = ON_CPU, decoding: Decoding = DEFAULT_DECODING
    ) -> None:
        super().__init__(network, compute, decoding)
        self.decoder = choose(
            network.prompt_encoder,
            network.mask_decoder,
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
        embeddings = self.network.image_encoder(torch.cat([self.pixels(view) for view in views]))
        pairs = zip(embeddings.split(1), views, strict=True)
        return [self.prepared(embedding, view) for embedding, view in pairs]

    def prepared(self, embedding: Tensor, view: View) -> PreparedImage:
        """Return the decoder's image side of a view with an embedding (1, C, h, w)."""
        return self.decoder.prepare(embedding, self.cells(embedding, view))


def build(
    state: State,
    path: str,
    compute: Compute = ON_CPU,
    decoding: Decoding = DEFAULT_DECODING,
    **options: Any,
) -> SamModel:
    """Build SAM with a plain ViT, with its weights, on its device.

    Args:
        state: Tensors of the checkpoint by name.
        path: File of the checkpoint, for error messages.
        compute: Device and precision.
        decoding: Which decoder to use.
        options: Those of `blueprint`.

    Raises:
        WeightsError: If the weights do not fit the network.
        ConfigError: If the device or the kernels are not available.
    """
    return SamModel(blueprint(**options).load(state, path), compute, decoding)


def blueprint(**vit_options: Any) -> Blueprint[Sam]:
    """Return SAM with a plain ViT without values; the options are those of `vit`."""
    with torch.device("meta"):
        encoder = vit(**vit_options)
    return Blueprint(joined(encoder, encoder.img_size), dialects=(HUGGING_FACE,))


def vit(
    kind: type[ImageEncoderViT] = ImageEncoderViT,
    *,
    embed_dim: int,
    depth: int,
    num_heads: int,
    global_attn_indexes: tuple[int, ...],
    mlp_dim: int | None = None,
    side: int = CANVAS,
) -> ImageEncoderViT:
    """Return SAM's image encoder for a canvas of `side` px. mlp_dim: 4 embed_dim if None."""
    return kind(
        img_size=side,
        patch_size=16,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        mlp_ratio=(mlp_dim or 4 * embed_dim) / embed_dim,
        out_chans=256,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=global_attn_indexes,
    )


def joined(encoder: nn.Module, side: int = CANVAS) -> Sam:
    """Return an encoder joined to SAM's own prompt encoder and mask decoder, without values.

    side: of the canvas that prompts are given in, px. The encoder's embedding is
    (1, 256, side / 16, side / 16).
    """
    with torch.device("meta"):
        prompt_encoder, mask_decoder = prompt_side(side)
    return Sam(encoder, prompt_encoder, mask_decoder, list(PIXEL_MEAN), list(PIXEL_STD))


def prompt_side(side: int) -> tuple[PromptEncoder, MaskDecoder]:
    """Return SAM's prompt encoder and mask decoder for a canvas of `side` px."""
    prompt_encoder = PromptEncoder(
        embed_dim=256,
        image_embedding_size=(side // 16, side // 16),
        input_image_size=(side, side),
        mask_in_chans=16,
    )
    mask_decoder = MaskDecoder(
        transformer_dim=256,
        transformer=TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=2048),
        num_multimask_outputs=3,
        iou_head_depth=3,
        iou_head_hidden_dim=256,
    )
    return prompt_encoder, mask_decoder


def neck(channels: int) -> nn.Sequential:
    """Return the neck that SAM and most variants end their encoder with: (B, channels, h, w) to
    (B, 256, h, w) by a 1 x 1 and a 3 x 3 convolution, each with a norm over channels."""
    return nn.Sequential(
        nn.Conv2d(channels, 256, 1, bias=False),
        LayerNorm2d(256),
        nn.Conv2d(256, 256, 3, padding=1, bias=False),
        LayerNorm2d(256),
    )
