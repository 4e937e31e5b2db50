"""The choice of a decoder for a pair of modules, by their structure."""

from __future__ import annotations

from contextlib import suppress

from torch import nn

from everything.decoding.backend import Limits
from everything.decoding.decoder_parts import UnlikeSAM
from everything.decoding.protocols import Decoder
from everything.decoding.reference import PlainDecoder
from everything.decoding.shared_image import DEFAULT_LIMITS, SharedImageDecoder


def choose(
    prompt_encoder: nn.Module,
    mask_decoder: nn.Module,
    plain: bool = False,
    kernels: str = "auto",
    compile: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> Decoder:
    """Return the shared-image decoder if the modules' structure allows it, else the plain one.

    Args:
        prompt_encoder: SAM's, or one with its interface.
        mask_decoder: SAM's, or one with its interface.
        plain: Always return the plain decoder.
        kernels: See `Compute.kernels`.
        compile: See `Compute.compile`.
        limits: What an accelerator is given at a time.

    Raises:
        ConfigError: If the kernels are not available, as `SharedImageDecoder.of` does.
    """
    if not plain:
        with suppress(UnlikeSAM):
            return SharedImageDecoder.of(prompt_encoder, mask_decoder, kernels, compile, limits)
    return PlainDecoder(prompt_encoder, mask_decoder)
