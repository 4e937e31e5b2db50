"""EfficientNet-Lite0 as an image encoder: feature maps at strides 2 to 32.

Written out here because importing timm takes as long as importing torch, and every start of the
default model would wait for it; tests/bundled/test_lite_encoder.py compares it with timm's
`tf_efficientnet_lite0`. Batch norms are folded into the convolutions before them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Of each stage: blocks, kernel, stride of its first block, expansion, channels in and out.
STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
LAST_OF_STRIDE = (0, 1, 2, 4, 6)  # stages after which a feature map is taken
CHANNELS = tuple(STAGES[i][-1] for i in LAST_OF_STRIDE)


class FoldedConv(nn.Conv2d):
    """A convolution with its batch norm folded in, and ReLU6 if `bounded`.

    Pads as TensorFlow does for even sides: a stride of 2 gets the odd row and column at the end.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        bounded: bool = True,
    ) -> None:
        super().__init__(channels, out, kernel, stride, groups=groups)
        self.bounded = bounded
        spare = kernel - stride
        self.margin = (spare // 2, spare - spare // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out, h / stride, w / stride) of (B, channels, h, w)."""
        if self.groups > 1 and x.device.type == "cpu" and torch.is_grad_enabled():
            # CPUs compute a depthwise convolution's bfloat16 gradients ten times slower.
            with torch.autocast("cpu", enabled=False):
                y = self._padded_conv(x.float())
        else:
            y = self._padded_conv(x)
        return F.relu6(y, inplace=True) if self.bounded else y

    def _padded_conv(self, x: Tensor) -> Tensor:
        if self.stride[0] == 1:
            return F.conv2d(x, self.weight, self.bias, 1, self.kernel_size[0] // 2, 1, self.groups)
        x = F.pad(x, self.margin)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; added to the input where the shape stays."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expand = FoldedConv(channels, wide) if expansion > 1 else None
        self.depthwise = FoldedConv(wide, wide, kernel, stride, groups=wide)
        self.narrow = FoldedConv(wide, out, bounded=False)
        self.added = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out, h / stride, w / stride) of (B, channels, h, w)."""
        y = x if self.expand is None else self.expand(x)
        y = self.narrow(self.depthwise(y))
        result: Tensor = x + y if self.added else y
        return result


class LiteEncoder(nn.Module):
    """EfficientNet-Lite0 without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = FoldedConv(3, STAGES[0][4], 3, 2)
        self.stages = nn.ModuleList(_stage(*stage) for stage in STAGES)

    def forward(self, rgb: Tensor) -> list[Tensor]:
        """Return feature maps (B, CHANNELS[i], h / s, w / s) at strides s = 2, 4, 8, 16, 32.

        rgb: float32 (B, 3, h, w) in [0, 1], h and w multiples of 32.
        """
        # The network was trained on (255 rgb - 127) / 128.
        x = (rgb * (255 / 128) - 127 / 128).contiguous(memory_format=torch.channels_last)
        x = self.stem(x)
        maps = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in LAST_OF_STRIDE:
                maps.append(x)
        return maps


def _stage(
    blocks: int, kernel: int, stride: int, expansion: int, channels: int, out: int
) -> nn.Sequential:
    first = InvertedResidual(channels, out, kernel, stride, expansion)
    rest = [InvertedResidual(out, out, kernel, 1, expansion) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)
