"""SAM and every variant that keeps its contract: an encoder, SAM's prompt encoder and decoder."""

from __future__ import annotations

from functools import partial

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
from torch import Tensor, nn
from torch.nn import functional as F

from everything.model import Drafts
from everything.plain_decoder import PlainDecoder, PlainImageSide
from everything.prompts import Prompts
from everything.variants.weights import State, load_strictly
from everything.view import Frame, Size, View, padded_frame

PIXEL_MEAN = (123.675, 116.28, 103.53)  # ImageNet's, of bytes
PIXEL_STD = (58.395, 57.12, 57.375)


class SamModel:
    """A network of segment_anything's class `Sam` behind this program's protocol.

    Its canvas is a square of `image_encoder.img_size` px: the view's longest side fills it, the
    rest is padding, zero after normalisation.
    """

    def __init__(self, sam: Sam) -> None:
        self.sam = sam.eval().requires_grad_(False)
        self.decoder = PlainDecoder(sam.prompt_encoder, sam.mask_decoder)

    def frame(self, view: Size) -> Frame:
        """Return where a view of (h, w) px lies on the canvas."""
        return padded_frame(view, self.sam.image_encoder.img_size)

    def encode(self, view: View) -> PlainImageSide:
        """Return the decoder's image side of a view."""
        return self.decoder.prepare(self.sam.image_encoder(self._canvas(view)))

    def propose(
        self, embedding: PlainImageSide, prompts: Prompts, multimask_output: bool
    ) -> Drafts:
        """Return the answers to prompts (P rows, canvas px)."""
        return embedding.propose(prompts.points, prompts.labels, multimask_output)

    def _canvas(self, view: View) -> Tensor:
        """The view as the encoder takes it, float32 (1, 3, side, side)."""
        frame = self.frame(view.size)
        _, _, width, height = frame.content
        # Pillow's antialiased resize on bytes, which is what SAM was trained with.
        resized = Image.fromarray(view.pixels).resize((width, height), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).to(self.sam.device)
        normalised = (pixels - self.sam.pixel_mean) / self.sam.pixel_std
        side = frame.canvas[0]
        return F.pad(normalised, (0, side - width, 0, side - height))[None]


def build(
    state: State,
    path: str,
    *,
    embed_dim: int,
    depth: int,
    num_heads: int,
    global_attn_indexes: tuple[int, ...],
) -> SamModel:
    """Return SAM with a plain ViT of the given shape and the weights of `state`.

    Raises WeightsError, which names `path`, if they do not fit.
    """
    with torch.device("meta"):
        encoder = ImageEncoderViT(
            img_size=1024,
            patch_size=16,
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            mlp_ratio=4,
            out_chans=256,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=14,
            global_attn_indexes=global_attn_indexes,
        )
    return assemble(encoder, state, path)


def assemble(encoder: nn.Module, state: State, path: str) -> SamModel:
    """Return an encoder (1024 px to 256 x 64 x 64, on any device) joined to SAM's own prompt
    encoder and mask decoder, with the weights of `state` in SAM's names.

    Raises WeightsError, which names `path`, if they do not fit.
    """
    with torch.device("meta"):
        prompt_encoder = PromptEncoder(
            embed_dim=256,
            image_embedding_size=(64, 64),
            input_image_size=(1024, 1024),
            mask_in_chans=16,
        )
        mask_decoder = MaskDecoder(
            transformer_dim=256,
            transformer=TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=2048),
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        )
    sam = Sam(encoder, prompt_encoder, mask_decoder, list(PIXEL_MEAN), list(PIXEL_STD))
    load_strictly(sam, state, path)
    return SamModel(sam)
