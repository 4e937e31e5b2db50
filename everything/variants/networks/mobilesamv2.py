"""MobileSAMv2: any SAM encoder with the prompt-guided decoder (Zhang et al., 2023).

The decoder is SAM's, fine-tuned with boxes: use the sampler object-aware. Its official checkpoint
has the prompt encoder and the decoder only; the image encoder is taken from another variant's.
"""

from __future__ import annotations

from typing import Any

from segment_anything.modeling import Sam

from everything.config import Compute, Decoding
from everything.core.device import DEFAULT_DECODING, ON_CPU
from everything.variants import VARIANTS
from everything.variants.checkpoints.key_mapping import Blueprint
from everything.variants.checkpoints.reader import State
from everything.variants.networks.sam import SamModel

NAMES = (
    (r"^prompt_encoder\.", "PromtEncoder."),  # as the file spells it
    (r"^mask_decoder\.", "MaskDecoder."),
)


def blueprint(encoder: str, **options: Any) -> Blueprint[Sam]:
    """Return the network of the variant `encoder` without values; `options` are its blueprint's."""
    record = VARIANTS[encoder]
    module = record.network_module()
    base: Blueprint[Sam] = module.blueprint(**{**record.options, **options})
    return Blueprint(base.network, (*base.names, *NAMES))


def build(
    state: State,
    path: str,
    compute: Compute = ON_CPU,
    decoding: Decoding = DEFAULT_DECODING,
    **options: Any,
) -> SamModel:
    """Build the model: see `sam.build`. The options are those of `blueprint`."""
    return SamModel(blueprint(**options).load(state, path), compute, decoding)
