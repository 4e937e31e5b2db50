"""nano and nano-lite0, the bundled tiny SAMs, with the shared-image decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from everything.bundled.boundary_net import STRIDE
from everything.bundled.nano import SIDE, Nano, NanoFeatures
from everything.config import Compute, Decoding
from everything.core.device import DEFAULT_DECODING, ON_CPU, device_of, sent
from everything.core.geometry import Frame, Size, View, padded_frame
from everything.core.prompts import Prompts
from everything.core.protocols import Candidates
from everything.decoding import Limits, SharedImage, SharedImageDecoder
from everything.variants.checkpoints.key_mapping import Blueprint
from everything.variants.checkpoints.reader import State
from everything.variants.networks.encoder_settings import configure_encoder
from everything.variants.spec import check_supported


@dataclass(frozen=True)
class NanoImage:
    """A view's features, and the image side of the decoder."""

    features: NanoFeatures
    side: SharedImage

    @property
    def embedding(self) -> Tensor:
        """The embedding, float32 (1, 128, 32, 32) over the canvas."""
        return self.features.embedding


class NanoModel:
    """nano as a `Model`.

    Its canvas is a square of 512 px. The view's longest side is scaled to it; the rest is padding,
    which the encoder skips.
    """

    def __init__(
        self, network: Nano, compute: Compute = ON_CPU, decoding: Decoding = DEFAULT_DECODING
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.device = device_of(compute)
        self.network.to(self.device)
        limits = Limits.of(compute, decoding)
        parts = self.network.prompt_encoder, self.network.mask_decoder
        self.decoder = SharedImageDecoder.of(*parts, compute.kernels, compute.compile, limits)
        configure_encoder(self.network.image_encoder, compute)

    @property
    def in_bulk(self) -> bool:
        """Whether prompts are best given all at a time: see everything/core/protocols.py."""
        return self.decoder.in_bulk

    def frame(self, view: Size) -> Frame:
        """Return where a view of (h, w) px lies on the canvas."""
        return padded_frame(view, SIDE)

    def encode(self, view: View) -> NanoImage:
        """Return the embedding of a view, with the decoder's image side."""
        features = self.network.image_encoder(self.pixels(view))
        details = self.network.mask_decoder.details(features)
        skip = details.permute(1, 2, 3, 0).flatten(1, 2)  # as DrawnSide.skip wants it
        side = self.decoder.prepare(features.embedding, features.cells, skip)
        encode = partial(self.network.prompt_encoder.tokens, features)
        return NanoImage(features, replace(side, encode=encode))

    def encode_batch(self, views: Sequence[View]) -> list[NanoImage]:
        """Return the embedding of each view; they are encoded one by one."""
        return [self.encode(view) for view in views]

    def features(self, embedding: NanoImage) -> Tensor:
        """Return the image encoder's embedding, float32 (1, 128, 32, 32) over the canvas."""
        return embedding.embedding

    def propose(self, embedding: NanoImage, prompts: Prompts, multimask_output: bool) -> Candidates:
        """Return the candidate masks of prompts (P rows, canvas px)."""
        return embedding.side.propose(prompts.points, prompts.labels, multimask_output)

    def pixels(self, view: View) -> Tensor:
        """Return the encoder's input for a view: float32 (1, 3, h, w) in [0, 1], with the last row
        and column repeated up to multiples of 32."""
        _, _, width, height = self.frame(view.size).content
        resized = Image.fromarray(view.pixels).resize((width, height), Image.Resampling.BILINEAR)
        pixels = sent(torch.from_numpy(np.array(resized)), self.device)
        pixels = pixels.permute(2, 0, 1)[None].float() / 255
        return F.pad(pixels, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")


def blueprint(backbone: str = "none") -> Blueprint[Nano]:
    """Return nano, its weights named as in the code.

    Args:
        backbone: Encoder of its trunk: "none" or "lite0".
    """
    return Blueprint(Nano(backbone))


def architecture(state: State) -> str:
    """Return the `backbone` that weights are of."""
    of_lite0 = any(name.startswith("image_encoder.trunk.encoder.") for name in state)
    return "lite0" if of_lite0 else "none"


def build(
    state: State,
    path: str,
    compute: Compute = ON_CPU,
    decoding: Decoding = DEFAULT_DECODING,
    backbone: str = "none",
) -> NanoModel:
    """Build the model: see `sam.build`.

    Args:
        state: Tells the backbone: a checkpoint of either architecture is taken.
        path: For errors.
        compute: See `NanoModel`.
        decoding: See `NanoModel`.
        backbone: Of the variant's own weights.

    Raises:
        ConfigError: Also for the plain decoder and for batches of images.
    """
    check_supported("nano", compute, decoding)
    return NanoModel(blueprint(architecture(state)).load(state, path), compute, decoding)
