"""Which decoder a pair of modules gets: by their structure, never by a name."""

from __future__ import annotations

from torch import nn

from everything.decoding.decoder_parts import UnlikeSAM
from everything.decoding.protocols import Decoder
from everything.decoding.reference import PlainDecoder
from everything.decoding.shared_image import SharedImageDecoder
from everything.kernels.loader import INSTRUCTIONS


def choose(
    prompt_encoder: nn.Module,
    mask_decoder: nn.Module,
    plain: bool = False,
    kernels: str = "auto",
    compile: bool = False,
) -> tuple[Decoder, str]:
    """Return the shared-image decoder where the modules' structure allows it, else the plain one,
    and a sentence that says which it is and why, for reports. plain: always the plain one.
    kernels, compile: see Compute. Raises ConfigError as SharedImageDecoder.of does.
    """
    if plain:
        return PlainDecoder(prompt_encoder, mask_decoder), "plain decoder: asked for"
    try:
        shared = SharedImageDecoder.of(prompt_encoder, mask_decoder, kernels, compile)
    except UnlikeSAM as error:
        return PlainDecoder(prompt_encoder, mask_decoder), f"plain decoder: {error}"
    by = f"{INSTRUCTIONS[0]} kernels" if shared.fused else "torch"
    return shared, f"shared-image decoder, exact, {by}"
