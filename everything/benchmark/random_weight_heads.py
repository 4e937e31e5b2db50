"""The last layers of a mask decoder's heads, which are scaled so that masks pass as SAM's do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from everything.benchmark.blobs.modules import linear_layers
from everything.variants.checkpoints.key_mapping import Blueprint
from everything.variants.checkpoints.reader import State
from everything.variants.networks.hq_sam import HqSamModel
from everything.variants.networks.sam import SamModel
from everything.variants.networks.sam2 import Sam2StillModel
from everything.variants.networks.transformers_model import TransformersModel

Model = SamModel | HqSamModel | Sam2StillModel | TransformersModel


class Heads:
    """A model's head for scores and those for masks; their last layers are linear.

    sigmoid: whether predicted IoUs are the sigmoid of the head's output, as in SAM 2 and
    SAM 3.
    """

    def __init__(self, model: Model) -> None:
        self._network: Any = model.network
        decoder = self._network.mask_decoder
        self._scores = linear_layers(decoder.iou_prediction_head)[-1]
        self._masks = [linear_layers(mlp)[-1] for mlp in decoder.output_hypernetworks_mlps]
        self.sigmoid = isinstance(model, Sam2StillModel | TransformersModel)

    @contextmanager
    def raw_scores(self) -> Iterator[list[Tensor]]:
        """Give a list that receives what the head for scores returns, before a sigmoid: (P, 4) for
        each call, of all mask tokens."""
        found: list[Tensor] = []
        hook = self._scores.register_forward_hook(lambda _, given, out: found.append(out))
        try:
            yield found
        finally:
            hook.remove()

    def scale_scores(self, scale: Tensor, shift: Tensor) -> None:
        """Multiply the scores of the mask tokens by `scale` (4,), then add `shift` (4,)."""
        self._scores.weight.mul_(scale[:, None])
        self._scores.bias.mul_(scale).add_(shift)

    def scale_masks(self, gain: float) -> None:
        """Multiply mask logits by `gain`."""
        for layer in self._masks:
            layer.weight.mul_(gain)
            layer.bias.mul_(gain)

    def put_into(self, state: State, plan: Blueprint[nn.Module]) -> State:
        """Return the state with the values of the prompt encoder and the mask decoder.

        plan: how the checkpoint names them.
        """
        found = dict(state)
        own = self._network.state_dict()
        for name, official in plan.official_names().items():
            if not name.startswith(("prompt_encoder.", "mask_decoder.", "shared_image_embedding.")):
                continue
            if "*" in official:
                rows = enumerate(own[name].split(1))
                found |= {official.replace("*", str(i)): row.contiguous() for i, row in rows}
            else:
                found[official] = own[name]
        return found
