"""Drawing: from a prompt's weights to mask logits, for the prompts that are wanted, only there."""

from __future__ import annotations

import torch
from torch import Tensor

from everything.decoding.decoder_parts import Upscaling
from everything.decoding.image_side import DrawnSide


def mask_features(u: Tensor, upscaling: Upscaling, skip: Tensor | None) -> Tensor:
    """Return the mask features (…, 4, 4, G, n) of the first transposed convolution's outputs.

    u (…, 4, F, n): F channels at the four sub-cells of n cells, centred over F if the norm is over
    them, overwritten; all cells if it is over the map. Both
    transposed convolutions have stride 2 and no overlap, so each is one product: the result holds
    G channels at four by four sub-cells. skip (4, 4 G, n): added before the last GELU.
    """
    norm, conv = upscaling.norm, upscaling.second
    over = (-3, -2, -1) if norm.over_map else (-2,)
    if norm.over_map:
        u.sub_(u.mean(over, keepdim=True))
    scale = u.square().mean(over, keepdim=True).add_(norm.eps).rsqrt_()
    u.mul_(scale).mul_(norm.weight[:, None]).add_(norm.bias[:, None])
    gelu_(u, upscaling.gelu)
    weight = conv.weight.detach().permute(2, 3, 1, 0).flatten(0, 2)
    features = torch.matmul(weight, u)
    if conv.bias is not None:
        features += conv.bias.detach().repeat(4)[:, None]
    if skip is not None:
        features += skip
    return torch.unflatten(gelu_(features, upscaling.gelu), -2, (4, -1))


def gelu_(x: Tensor, approximate: str) -> Tensor:
    """GELU in place; approximate: "none" is the exact one."""
    return torch.ops.aten.gelu_(x, approximate=approximate)  # type: ignore[no-any-return]


def assemble_(parts: Tensor, out: Tensor) -> None:
    """Write values (4, 4, rows · columns) at all sub-cells into logits `out` (4 rows, 4 columns).

    The two leading dimensions are the sub-cells of the first and of the second x2 step, each
    ordered (row, column).
    """
    rows, columns = out.shape[0] // 4, out.shape[1] // 4
    target = torch.unflatten(torch.unflatten(out, 1, (columns, 2, 2)), 0, (rows, 2, 2))
    target.copy_(parts.view(2, 2, 2, 2, rows, columns).permute(4, 0, 2, 5, 1, 3))


def first_convolution(drawn: DrawnSide, D: Tensor, r: Tensor, M: Tensor) -> Tensor:
    """Return r ⊙ S_up + Mᵀ D + P_up as (4, F, n): the first convolution of the final keys.

    D (K, n): the weights of both updates times their scales. M (K, 4 F). r (n,): s1 s2.
    """
    u = torch.addmm(drawn.P_up, M.T, D)
    return torch.unflatten(u.addcmul_(drawn.S_up, r), 0, (4, -1))
