"""SAM's attention, with or without relative positions, without a matrix of all pairs of tokens."""

from __future__ import annotations

import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention, get_rel_pos
from torch import Tensor
from torch.nn import functional as F

# Of relative positions that exist at a time: what caches hold, and few launches on accelerators.
BIAS_BYTES, BIAS_BYTES_THERE = 2**24, 2**28


class FusedAttention(Attention):  # type: ignore[misc]  # segment_anything has no types
    """The same attention, for a few queries at a time through torch's fused kernel.

    SAM's own writes h N^2 logits for each of several steps, 0.8 GB for a global layer of ViT-B,
    which is most of that layer's time and of the encoder's memory. Here the relative positions of
    some queries become the mask of a fused attention, so that no more than BIAS_BYTES exist
    (BIAS_BYTES_THERE on an accelerator).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (B, H, W, C) after attention among the H W of each."""
        B, H, W, _ = x.shape
        qkv = self.qkv(x).view(B, H * W, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()
        whole = self._with_positions(q, k, v, (H, W)) if self.use_rel_pos else _attend(q, k, v)
        read = whole.transpose(1, 2).reshape(B, H, W, -1)
        projected: Tensor = self.proj(read)
        return projected

    def _with_positions(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        H, W = grid
        down, across = self._positions(torch.unflatten(q, 2, grid))
        limit = BIAS_BYTES if q.device.type == "cpu" else BIAS_BYTES_THERE
        count = max(1, limit // (q.shape[0] * q.shape[1] * H * W * q.element_size()))
        pieces = [torch.split(t, count, 2) for t in (q, down, across)]
        parts = [
            _attend(some, k, v, (d + a).flatten(-2)) for some, d, a in zip(*pieces, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 2)

    def _positions(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """What queries (B, h, H, W, d) make of the steps down, (B, h, H W, H, 1), and across,
        (B, h, H W, 1, W), to all keys."""
        H, W = q.shape[2:4]
        rows, columns = (
            _steps(*each).to(q.dtype) for each in ((H, self.rel_pos_h), (W, self.rel_pos_w))
        )
        down = torch.einsum("bnhwd,hkd->bnhwk", q, rows)
        across = torch.einsum("bnhwd,wkd->bnhwk", q, columns)
        return down.flatten(2, 3)[..., None], across.flatten(2, 3)[..., None, :]


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    found: Tensor = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    return found


def _steps(n: int, positions: Tensor) -> Tensor:
    """The relative positions (n, n, d) of n queries to n keys."""
    if len(positions) != 2 * n - 1:
        found: Tensor = get_rel_pos(n, n, positions)  # stretches them
        return found
    # positions[i - j + n - 1] for query i and key j, in one launch and without an index.
    return positions.unfold(0, n, 1).flip(2).transpose(1, 2)


def fuse(encoder: ImageEncoderViT) -> None:
    """Let every attention of SAM's ViT be FusedAttention, with the same weights."""
    _replace(encoder, FusedAttention)


def unfuse(encoder: ImageEncoderViT) -> None:
    """Undo `fuse`: the attention is segment_anything's own again."""
    _replace(encoder, Attention)


def _replace(encoder: ImageEncoderViT, kind: type[Attention]) -> None:
    for block in encoder.blocks:
        old = block.attn
        make = {"dim": old.qkv.in_features, "num_heads": old.num_heads}
        if old.use_rel_pos:
            size = ((len(old.rel_pos_h) + 1) // 2, (len(old.rel_pos_w) + 1) // 2)
            make |= {"use_rel_pos": True, "input_size": size}
        with torch.device("meta"):
            new = kind(**make)
        new.load_state_dict(old.state_dict(), assign=True)
        block.attn = new.train(old.training)
