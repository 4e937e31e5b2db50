"""The last layers of a mask decoder's heads, which are scaled to fit random weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from everything.config import Decoding
from everything.core.geometry import View
from everything.decoding.reference import PlainDecoder, PlainImage
from everything.decoding.sam2 import PlainSam2Image
from everything.variants.checkpoints.key_mapping import Blueprint
from everything.variants.checkpoints.reader import State
from everything.variants.networks.sam import SamModel
from everything.variants.networks.sam2 import Sam2StillModel

Model = SamModel | Sam2StillModel


class Heads:
    """A model's head for scores and those for masks; their last layers are linear.

    sigmoid: whether predicted IoUs are the sigmoid of the head's output, as in SAM 2.
    """

    def __init__(self, model: Model) -> None:
        self._network: Any = model.network
        self._decoder = self._network.mask_decoder
        self._scores = _last(self._decoder.iou_prediction_head)
        self._masks = [_last(mlp) for mlp in self._decoder.output_hypernetworks_mlps]
        self.sigmoid = isinstance(model, Sam2StillModel)

    @torch.no_grad()
    def centre_masks(self, feature: Tensor) -> None:
        """Make the mask heads ignore the features' mean (C,): else masks are full or empty."""
        direction = feature / feature.norm()
        for layer in self._masks:
            layer.weight -= torch.outer(direction, direction @ layer.weight)
            layer.bias -= direction * (direction @ layer.bias)

    @torch.no_grad()
    def scale(self, scores: float, shift: float, masks: float) -> None:
        """Multiply scores by `scores`, add `shift`, and multiply mask logits by `masks`."""
        self._scores.weight *= scores
        self._scores.bias.mul_(scores).add_(shift)
        for layer in self._masks:
            layer.weight *= masks
            layer.bias *= masks

    def put_into(self, state: State, plan: Blueprint[nn.Module]) -> State:
        """Return the state with these layers' values. plan: how the checkpoint names them."""
        layers = {id(tensor) for one in (self._scores, *self._masks) for tensor in one.parameters()}
        official = plan.official_names()
        own = self._network.named_parameters()
        return state | {official[n]: t.detach() for n, t in own if id(t) in layers}


def watched(model: Model, see: Callable[[Tensor], None]) -> AbstractContextManager[Any]:
    """Call `see` at each decode with what the mask heads multiply, (P, C, 4 h, 4 w)."""
    decoder: Any = model.network.mask_decoder
    # In SAM 2 it comes out of an activation that is called before, too.
    source = decoder.activation if isinstance(model, Sam2StillModel) else decoder.output_upscaling
    handle: AbstractContextManager[Any] = source.register_forward_hook(
        lambda module, given, features: see(features)
    )
    return handle


def encoded(model: Model, view: View) -> PlainImage | PlainSam2Image:
    """Encode a view for the plain decoder, which uses the heads as they are when it is called."""
    if isinstance(model, Sam2StillModel):
        plain = Decoding(decoder="plain")
        image = Sam2StillModel(model.network, decoding=plain).encode(view)
        assert isinstance(image, PlainSam2Image)
        return image
    features = model.network.image_encoder(model.pixels(view))
    network = model.network
    return PlainDecoder(network.prompt_encoder, network.mask_decoder).prepare(features)


def _last(head: Any) -> Any:
    """The last layer: SAM's head has them as `layers`, SAM 2's as `proj_out`."""
    if isinstance(head, nn.Sequential):
        return head[-1]
    return head.proj_out if hasattr(head, "proj_out") else head.layers[-1]
