"""Q-TinySAM: TinySAM (Shu et al., 2023) whose image encoder computes in 8-bit integers.

The authors' checkpoint is a pickled module that computes in floats; here the encoder is quantised
from TinySAM's on images of one's own (`everything quantize`), and computes in integers.
"""

from __future__ import annotations

from typing import Any

import torch
from segment_anything.modeling import Sam
from torch import nn

from everything.config import Compute, Decoding
from everything.core.device import DEFAULT_DECODING, ON_CPU
from everything.errors import ConfigError
from everything.variants.checkpoints.key_mapping import Blueprint
from everything.variants.checkpoints.reader import State
from everything.variants.networks.int8 import empty, fold_norms, pack, replace_layers
from everything.variants.networks.sam import CANVAS, SamModel, joined
from everything.variants.networks.tinyvit import TinyVitEncoder


class IntegerSamModel(SamModel):
    """SAM with an image encoder in 8-bit integers, which runs on CPUs only.

    Raises:
        ConfigError: If another device or a floating-point precision is asked for.
    """

    def __init__(
        self, network: Sam, compute: Compute = ON_CPU, decoding: Decoding = DEFAULT_DECODING
    ) -> None:
        if compute.device not in ("auto", "cpu") or compute.precision in ("bf16", "fp16"):
            raise ConfigError(
                f"compute.device = {compute.device!r}, compute.precision = {compute.precision!r}: "
                f"q-tinysam runs in integers on the CPU: drop these options, or use tinysam"
            )
        super().__init__(network, ON_CPU, decoding)


def reduced(encoder: nn.Module) -> None:
    """Prepare a Tiny-ViT encoder for quantisation: fold norms, drop the classifier."""
    encoder.get_submodule("body").head = nn.Identity()
    fold_norms(encoder)


def blueprint(side: int = CANVAS) -> Blueprint[Sam]:
    """Return the network without values, for a canvas of `side` px."""
    with torch.device("meta"):
        encoder = TinyVitEncoder(side).eval()
        reduced(encoder)
        replace_layers(encoder, lambda name, layer: empty(layer))
    return Blueprint(joined(encoder, side))


def build(
    state: State,
    path: str,
    compute: Compute = ON_CPU,
    decoding: Decoding = DEFAULT_DECODING,
    **options: Any,
) -> IntegerSamModel:
    """Build the model: see `sam.build`. The options are those of `blueprint`."""
    network = blueprint(**options).load(state, path)
    pack(network.image_encoder)
    return IntegerSamModel(network, compute, decoding)
