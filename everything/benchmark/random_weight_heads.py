"""The last layers of a mask decoder's heads, which are scaled to fit random weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from everything.config import Decoding
from everything.core.geometry import View
from everything.decoding.hq import PlainHqImage
from everything.decoding.reference import PlainDecoder, PlainImage
from everything.decoding.sam2 import PlainSam2Image
from everything.variants.checkpoints.key_mapping import Blueprint
from everything.variants.checkpoints.reader import State
from everything.variants.networks.hq_sam import HqSamModel
from everything.variants.networks.sam import SamModel
from everything.variants.networks.sam2 import Sam2StillModel

Model = SamModel | HqSamModel | Sam2StillModel
PlainedImage = PlainImage | PlainHqImage | PlainSam2Image


class Heads:
    """A model's head for scores and those for masks; their last layers are linear.

    HQ-SAM has one more head for masks, which multiplies other features.

    sigmoid: whether predicted IoUs are the sigmoid of the head's output, as in SAM 2.
    """

    def __init__(self, model: Model) -> None:
        self._network: Any = model.network
        self._decoder = self._network.mask_decoder
        self._scores = _last(self._decoder.iou_prediction_head)
        self._masks = [_last(mlp) for mlp in self._decoder.output_hypernetworks_mlps]
        self._tokens = [_last(self._decoder.hf_mlp)] if isinstance(model, HqSamModel) else []
        self.sigmoid = isinstance(model, Sam2StillModel)

    @torch.no_grad()
    def centre_masks(self, features: Sequence[Tensor]) -> None:
        """Make the mask heads ignore the means (C,) of the features that they multiply, as
        `mean_features` returns them: else masks are full or empty."""
        for feature, heads in zip(features, (self._masks, self._tokens), strict=False):
            direction = feature / feature.norm()
            for layer in heads:
                layer.weight -= torch.outer(direction, direction @ layer.weight)
                layer.bias -= direction * (direction @ layer.bias)

    @torch.no_grad()
    def scale(self, scores: float, shift: float, masks: float) -> None:
        """Multiply scores by `scores`, add `shift`, and multiply mask logits by `masks`."""
        self._scores.weight *= scores
        self._scores.bias.mul_(scores).add_(shift)
        for layer in (*self._masks, *self._tokens):
            layer.weight *= masks
            layer.bias *= masks

    def put_into(self, state: State, plan: Blueprint[nn.Module]) -> State:
        """Return the state with these layers' values. plan: how the checkpoint names them."""
        heads = (self._scores, *self._masks, *self._tokens)
        layers = {id(tensor) for head in heads for tensor in head.parameters()}
        official = plan.official_names()
        own = self._network.named_parameters()
        return state | {official[n]: t.detach() for n, t in own if id(t) in layers}


def mean_features(model: Model, image: PlainedImage, ask: Callable[[], object]) -> list[Tensor]:
    """Return the means (C,) over cells and prompts of what the mask heads multiply while `ask`
    decodes prompts on an image; of HQ-SAM, also of what its token's head multiplies."""
    decoder: Any = model.network.mask_decoder
    # In SAM 2 it comes out of an activation that is called before, too.
    sources = [
        decoder.activation if isinstance(model, Sam2StillModel) else decoder.output_upscaling
    ]
    if isinstance(model, HqSamModel):
        sources.append(decoder.embedding_maskfeature)
    seen: list[list[Tensor]] = [[] for _ in sources]
    with ExitStack() as hooks:
        for source, means in zip(sources, seen, strict=True):
            hooks.enter_context(
                source.register_forward_hook(
                    lambda module, given, found, means=means: means.append(found.mean((0, 2, 3)))
                )
            )
        ask()
    last = [means[-1] for means in seen]
    if isinstance(image, PlainHqImage):
        last[1] = last[1] + image.hq_features.mean((0, 2, 3))
    return last


def encoded(model: Model, view: View) -> PlainedImage:
    """Encode a view for the plain decoder, which uses the heads as they are when it is called."""
    network = model.network
    if isinstance(model, Sam2StillModel):
        image = Sam2StillModel(network, decoding=Decoding(decoder="plain")).encode(view)
        assert isinstance(image, PlainSam2Image)
        return image
    modules = network.prompt_encoder, network.mask_decoder
    found = network.image_encoder(model.pixels(view))
    if isinstance(model, HqSamModel):
        return PlainHqImage(*modules, found[0], network.mask_decoder.of_image(*found))
    return PlainDecoder(*modules).prepare(found)


def _last(head: Any) -> Any:
    """The last layer: SAM's head has them as `layers`, SAM 2's as `proj_out`."""
    if isinstance(head, nn.Sequential):
        return head[-1]
    return head.proj_out if hasattr(head, "proj_out") else head.layers[-1]
