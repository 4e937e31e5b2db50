"""The image side: everything that depends on the image and not on the prompts.

Arrays are channel-first, (h, d, N) for h heads of d channels and N image tokens, so that every
product with a prompt's few rows runs along contiguous memory. K0 and V0 alone are (h, N, d), as
fused attention wants them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from everything.core.device import sent
from everything.core.geometry import Size
from everything.decoding.decoder_parts import Parts
from everything.decoding.weight_folding import Folded, centred

Cells = tuple[int, int]  # (rows, columns) of the embedding
Skips = tuple[Tensor, Tensor]  # feature maps (1, G, 4 h, 4 w) and (1, F, 2 h, 2 w)


@dataclass(frozen=True)
class DrawnSide:
    """What drawing needs, of only the n = rows · columns image tokens with content.

    grid, cells: rows and columns of all and of these tokens. where int64 (n,): these among the N.
    Q0, S_q1, P_q1 (h, d, n). S_up (4 F, n), P_up (4 F, 1 or n): the first transposed
    convolution's F channels at four sub-cells. skip: None or (4, 4 G, n), added to the output of
    the second one.
    """

    grid: Cells
    cells: Cells
    where: Tensor
    Q0: Tensor
    S_q1: Tensor
    P_q1: Tensor
    S_up: Tensor
    P_up: Tensor
    skip: Tensor | None = None


@dataclass(frozen=True)
class ImageSide:
    """The image side of a decoder, in the symbols of weight_folding.py.

    n0 = |Xc|² / C + ε and n1 = |X̃|² / C, (N,): squared lengths. Z0 = (2 / C) Xc Wc, Zt0 and
    Zt1 = (2 / C) X̃ [W̃0 | W̃1], (h, d, N): how updates change them. z_c = (2 / C) X̃ · c, (N,).
    S_*: X W of each reading, (h, d, N). K0, V0, Q0: keys, values and queries of the first layer.
    """

    K0: Tensor
    V0: Tensor
    Q0: Tensor
    n0: Tensor
    Z0: Tensor
    S_k1: Tensor
    S_v1: Tensor
    S_q1: Tensor
    n1: Tensor
    Zt0: Tensor
    Zt1: Tensor
    z_c: Tensor
    S_kf: Tensor
    S_vf: Tensor
    drawn: DrawnSide


def image_side(
    parts: Parts,
    folded: Folded,
    X: Tensor,
    grid: Cells,
    content: Cells,
    skips: Skips | None = None,
) -> ImageSide:
    """Return the image side of X (N, C), the image embedding with the dense prompt added.

    grid: rows and columns of the N tokens. content: of those, how many from the top left masks
    are drawn on; attention sees all of them. skips: SAM 2's fine features, added to the outputs
    of the second and of the first transposed convolution.
    """
    f, h, C = folded, folded.heads, X.shape[1]
    XP = X + f.position
    Xc = centred(X + f.bo0)
    Xt = centred(f.gamma0 * Xc)
    to_image, to_tokens = parts.first.to_image, parts.first.to_tokens

    def by_head(x: Tensor) -> Tensor:
        return torch.unflatten(x.T.contiguous(), 0, (h, -1))

    def updates(x: Tensor, W: Tensor) -> Tensor:
        return by_head((2 / C) * x @ W.flatten(0, 1).T)

    Q0, S_q1 = by_head(to_tokens.q(XP)), by_head(Xc @ f.q1.W)
    where = sent(drawn_tokens(grid, content), X.device)
    P_up, skip = f.up.P, None
    if skips is not None:
        # Less its mean over the channels, as the convolution's weights (weight_folding.py).
        fine = skips[1] - skips[1].mean(1, keepdim=True)
        P_up = P_up + sub_cells(fine, 2).flatten(0, 1)[:, where]
        skip = sub_cells(skips[0], 4).flatten(1, 2)[..., where]
    drawn = DrawnSide(
        grid=grid,
        cells=content,
        where=where,
        Q0=Q0[..., where],
        S_q1=S_q1[..., where],
        P_q1=f.q1.P_by_head[..., where],
        S_up=(Xt[where] @ f.up.W).T.contiguous(),
        P_up=P_up,
        skip=skip,
    )
    return ImageSide(
        K0=by_head(to_image.k(XP)).transpose(1, 2).contiguous(),
        V0=by_head(to_image.v(X)).transpose(1, 2).contiguous(),
        Q0=Q0,
        n0=Xc.square().mean(1) + f.eps0,
        Z0=updates(Xc, f.Wc),
        S_k1=by_head(Xc @ f.k1.W),
        S_v1=by_head(Xc @ f.v1.W),
        S_q1=S_q1,
        n1=Xt.square().mean(1),
        Zt0=updates(Xt, f.Wt0),
        Zt1=updates(Xt, f.Wt1),
        z_c=(2 / C) * Xt @ f.c,
        S_kf=by_head(Xt @ f.kf.W),
        S_vf=by_head(Xt @ f.vf.W),
        drawn=drawn,
    )


def content_cells(content: Size, canvas: Size, grid: Cells) -> Cells:
    """Return how many cells (rows, columns) of the embedding masks have to be drawn on.

    content (h, w) px: what a view takes of the canvas (h, w) px, from the top left. Logits have
    four values to a cell and axis; interpolation, at most bicubic, looks two values further.
    """
    rows, columns = (
        min(cells, math.ceil((math.floor((used - 0.5) * 4 * cells / size - 0.5) + 3) / 4))
        for used, size, cells in zip(content, canvas, grid, strict=True)
    )
    return rows, columns


def sub_cells(features: Tensor, scale: int) -> Tensor:
    """Return a feature map (1, F, 2 h, 2 w) as (4, F, h w), or (1, G, 4 h, 4 w) as
    (4, 4, G, h w): the channels of every cell at its sub-cells, ordered (row, column), first
    those of the first x2 step. scale: 2 or 4."""
    steps = (2,) * (scale // 2)
    rows, columns = features.shape[2] // scale, features.shape[3] // scale
    x = torch.unflatten(torch.unflatten(features[0], 2, (columns, *steps)), 1, (rows, *steps))
    order = (2, 4, 0, 1, 3) if scale == 2 else (2, 5, 3, 6, 0, 1, 4)
    x = x.permute(order).flatten(-2)
    return x.flatten(0, 1) if scale == 2 else x.flatten(2, 3).flatten(0, 1)


def drawn_tokens(grid: Cells, content: Cells) -> Tensor:
    """Return which of the row-major tokens of a grid lie in its first rows and columns, int64."""
    (rows, columns), (r, c) = grid, content
    if not (1 <= r <= rows and 1 <= c <= columns):
        raise ValueError(f"content {content} is not within the embedding's {grid} cells")
    return torch.arange(rows * columns).view(rows, columns)[:r, :c].flatten()
