"""nano with segment_anything's interface, so that its everything mode runs on trained weights.

Nothing of segment_anything is changed: what nano adds to SAM (tokens with image features at each
prompt, details at stride 4) is inside the modules that are called.
"""

from __future__ import annotations

import copy
from typing import Any

from segment_anything.modeling import Sam
from torch import Tensor, nn
from torch.nn import functional as F

from everything.bundled.boundary_net import STRIDE
from everything.bundled.nano import FINE, GRID, SIDE, Nano, NanoFeatures


class NanoSam(Sam):  # type: ignore[misc]
    """nano's own modules and weights under SAM's names and signatures."""

    def __init__(self, nano: Nano) -> None:
        encoder = _Encoder(nano)
        decoder = copy.deepcopy(nano.mask_decoder)
        decoder.output_upscaling[3] = _Detailed(decoder.output_upscaling[3], decoder.skip, encoder)
        super().__init__(encoder, _Prompts(nano, encoder), decoder, [0.0] * 3, [255.0] * 3)
        self.eval().requires_grad_(False)

    def preprocess(self, x: Tensor) -> Tensor:
        """Return pixels (1, 3, h, w) in [0, 1], padded as for nano by repeating the edge."""
        height, width = x.shape[-2:]
        return F.pad(x.float() / 255, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")


class _Encoder(nn.Module):
    """Returns the embedding, and keeps the image's other features."""

    def __init__(self, nano: Nano) -> None:
        super().__init__()
        self.nano, self.img_size = nano.image_encoder, SIDE
        self.seen: list[NanoFeatures] = []

    def forward(self, pixels: Tensor) -> Tensor:
        self.seen[:] = [self.nano(pixels)]
        return self.seen[0].embedding


class _Prompts(nn.Module):
    def __init__(self, nano: Nano, encoder: _Encoder) -> None:
        super().__init__()
        self.nano, self._seen = nano.prompt_encoder, encoder.seen

    def get_dense_pe(self) -> Tensor:
        dense: Tensor = self.nano.get_dense_pe()
        return dense

    def forward(self, points: tuple[Tensor, Tensor], boxes: None, masks: None) -> Any:
        assert (boxes, masks) == (None, None), "the everything mode prompts with points only"
        tokens = self.nano.tokens(self._seen[0], *points)
        dense = self.nano.no_mask_embed.weight.reshape(1, -1, 1, 1)
        return tokens, dense.expand(len(tokens), -1, *GRID)


class _Detailed(nn.Module):
    """The second upscaling step; adds the image's details to its result."""

    def __init__(self, step: nn.Module, skip: nn.Module, encoder: _Encoder) -> None:
        super().__init__()
        self.step, self.skip, self._seen = step, skip, encoder.seen

    def forward(self, features: Tensor) -> Tensor:
        details: Tensor = self.skip(self._seen[0].detail)
        side = SIDE // FINE
        rows, columns = details.shape[2:]
        result: Tensor = self.step(features)
        return result + F.pad(details, (0, side - columns, 0, side - rows))
