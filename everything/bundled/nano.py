"""The networks of `nano`: a tiny SAM that grew on a boundary network, `ucm`'s or `ucm-lite0`'s.

As in SAM an image is encoded once and prompts are answered from the embedding by a two-way
transformer. Two things are added, both on the side that all prompts of an image share or among a
prompt's own tokens, so that decoders which compute the image side once stay exact:

- a prompt brings what the image looks like where it points, as a token of its own (`NanoPrompts`);
- the mask features get what the image looks like at stride 4, as in SAM 2 (`NanoDecoder`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn
from torch.nn import functional as F

from everything.bundled.boundary_net import BoundaryNet, Residual
from everything.bundled.pretrained_boundary_net import PretrainedBoundaryNet
from everything.core.device import sent
from everything.decoding.prompt_encoding import box_columns, encode_sam

SIDE = 512  # px of the square canvas
CELL = 16  # px of a cell of the embedding
GRID = (SIDE // CELL, SIDE // CELL)
WIDTH, HEADS, DETAIL = 128, 4, 40
FINE = 4  # px of a cell of the details
OUTSIDE, INSIDE, BOX, NOTHING = range(4)  # what a place token stands for
# Frequencies of the positional code, one for each head: a match is 80 to 10 px wide (sigma).
SPREAD = (0.5, 1.0, 2.0, 4.0)
MATCH = 1.6  # how strongly places that match attract each other at the start
QUIET = 0.3  # size of all content at the start, beside a positional code of size 0.7


class NanoFeatures(NamedTuple):
    """What nano knows of an image.

    embedding: float32 (1, 128, 32, 32) over the canvas, zero on padding. detail: float32 (1, 40,
    h / 4, w / 4) over the content, whose h and w are multiples of 32 px.
    """

    embedding: Tensor
    detail: Tensor

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the embedding that have content."""
        return self.detail.shape[2] * FINE // CELL, self.detail.shape[3] * FINE // CELL


class NanoEncoder(nn.Module):
    """A boundary network's feature maps, folded into one embedding at stride 16.

    backbone: "none" for `BoundaryNet`, "lite0" for `PretrainedBoundaryNet` and two more
    convolutions for the details.
    """

    def __init__(self, backbone: str = "none") -> None:
        super().__init__()
        self.trunk = PretrainedBoundaryNet() if backbone == "lite0" else BoundaryNet()
        del self.trunk.up2, self.trunk.boundary, self.trunk.affinity  # what makes boundaries
        self.norm8, self.norm16 = nn.GroupNorm(9, 72), nn.GroupNorm(16, 128)
        self.detail_norm = nn.GroupNorm(5, DETAIL)
        self.refine = Residual(DETAIL) if backbone == "lite0" else nn.Identity()
        self.narrow4, self.narrow8 = nn.Conv2d(DETAIL, 16, 1), nn.Conv2d(72, 48, 1)
        # Space to depth: a cell keeps what its 16 and 4 finer cells hold.
        self.from4, self.from8 = nn.Conv2d(16 * 16, WIDTH, 1), nn.Conv2d(48 * 4, WIDTH, 1)
        self.from16 = nn.Conv2d(128, WIDTH, 1)
        self.mix = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.norm = nn.LayerNorm(WIDTH)
        nn.init.constant_(self.norm.weight, QUIET)

    def forward(self, rgb: Tensor) -> NanoFeatures:
        """Return what there is to know of RGB float32 (1, 3, h, w) in [0, 1], h and w multiples
        of 32 and at most 512, the top left of the canvas. Raises ValueError for other sides."""
        if max(rgb.shape[-2:]) > SIDE:
            raise ValueError(f"sides must be at most {SIDE}, not {tuple(rgb.shape[-2:])}")
        maps = self.trunk.pyramid(rgb)
        detail = self.refine(self.detail_norm(maps.x4))
        x = self.from16(self.norm16(maps.x16))
        x = x + self.from8(F.pixel_unshuffle(self.narrow8(self.norm8(maps.x8)), 2))
        x = x + self.from4(F.pixel_unshuffle(self.narrow4(detail), 4))
        x = x + self.mix(F.relu(x))
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).float()
        rows, columns = x.shape[2:]
        return NanoFeatures(F.pad(x, (0, GRID[1] - columns, 0, GRID[0] - rows)), detail.float())


class NanoPrompts(PromptEncoder):  # type: ignore[misc]
    """SAM's prompt encoder, and a token for each place that a prompt points at: what the image
    looks like there."""

    def __init__(self) -> None:
        super().__init__(WIDTH, GRID, (SIDE, SIDE), mask_in_chans=16)
        self.look = nn.Sequential(
            nn.Linear(WIDTH + DETAIL, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)
        )
        self.kinds = nn.Embedding(4, WIDTH)
        self.pe_layer.positional_encoding_gaussian_matrix = frequencies()
        for embedding in (*self.point_embeddings, self.not_a_point_embed, self.kinds):
            nn.init.normal_(embedding.weight, std=QUIET)

    def tokens(self, features: NanoFeatures, points: Tensor, labels: Tensor) -> Tensor:
        """Return the tokens float32 (P, T, 128) of P prompts: SAM's, then one for each click and
        one for the box. points (P, K, 2) and labels (P, K) as `encode_sam` takes and refuses
        them, px of the canvas."""
        points = points.float()
        sparse, _ = encode_sam(self, points, labels)
        places, kinds = (sent(x, sparse.device) for x in _places(points, labels))
        code = self.pe_layer.forward_with_coords(places + 0.5, (SIDE, SIDE))
        looks = self.look(_sampled(features, places))
        known = (kinds != NOTHING)[..., None]
        return torch.cat([sparse, self.kinds(kinds) + known * (code + looks)], 1)


class NanoDecoder(MaskDecoder):  # type: ignore[misc]
    """SAM's mask decoder; `skip` brings details to the 16 mask features at stride 4."""

    def __init__(self) -> None:
        transformer = TwoWayTransformer(2, WIDTH, HEADS, mlp_dim=2 * WIDTH)
        super().__init__(transformer_dim=WIDTH, transformer=transformer, iou_head_hidden_dim=WIDTH)
        self.skip = nn.Conv2d(DETAIL, WIDTH // 8, 1)
        match_places(transformer)
        for embedding in (self.iou_token, self.mask_tokens):
            nn.init.normal_(embedding.weight, std=QUIET)

    def details(self, features: NanoFeatures) -> Tensor:
        """Return what is added to the mask features, (n, 4, 4, 16): the n cells with content, row
        by row, and in each the sub-cells (row, column) of the first and of the second x2 step."""
        x = self.skip(features.detail)[0].unflatten(2, (-1, 2, 2)).unflatten(1, (-1, 2, 2))
        result: Tensor = x.permute(1, 4, 2, 5, 3, 6, 0).flatten(0, 1).flatten(1, 2).flatten(2, 3)
        return result


class Nano(nn.Module):
    """Encoder, prompt encoder and mask decoder under SAM's names; backbone: see `NanoEncoder`."""

    def __init__(self, backbone: str = "none") -> None:
        super().__init__()
        self.image_encoder = NanoEncoder(backbone)
        self.prompt_encoder = NanoPrompts()
        self.mask_decoder = NanoDecoder()


def match_places(transformer: TwoWayTransformer) -> None:
    """Set a two-way transformer's attentions so that they begin as a search for equal places.

    Queries and keys between tokens and image read the same sines and cosines of the positional
    code, each head those of one frequency band, so that q · k falls off with the distance; tokens
    among each other compare all they have. Norms make content small, as it would drown the code.
    """
    for norm in (m for m in transformer.modules() if isinstance(m, nn.LayerNorm)):
        nn.init.constant_(norm.weight, QUIET)
    for attention in (m for m in transformer.modules() if isinstance(m, Attention)):
        q, k = attention.q_proj, attention.k_proj
        inner, width = q.weight.shape
        with torch.no_grad():
            if inner == width:
                nn.init.orthogonal_(q.weight)
            else:
                q.weight.mul_(0.5).add_(_place_reader(inner, width))
            k.weight.copy_(q.weight)
            q.bias.zero_()
            k.bias.zero_()


def frequencies() -> Tensor:
    """Return the positional code's 64 frequencies, float32 (2, 64), in the place of SAM's random
    ones: 16 for each band of SPREAD, the sums of whose first and last eight cosines fall off like
    Gaussians, as their directions are even and their lengths the quantiles of a normal's."""
    step = torch.arange(8)
    lengths = (-2 * torch.log1p(-(step * 3 % 8 + 0.5) / 8)).sqrt()
    angles = torch.stack([step, step + 0.5]) * (math.pi / 8)
    waves = lengths * torch.stack([angles.cos(), angles.sin()])
    bands = torch.tensor(SPREAD)[:, None, None] * waves[:, None]
    return bands.flatten(1).contiguous()


def _place_reader(inner: int, width: int) -> Tensor:
    """A map (inner, width) that copies sines and cosines, `MATCH` times: to each head's rows the
    first half of its band."""
    bands = torch.arange(width // 2).view(len(SPREAD), -1)
    chosen = bands[:, : inner // 2 // len(SPREAD)].flatten()
    rows = torch.arange(inner // 2)
    reader = torch.zeros(inner, width)
    reader[2 * rows, chosen] = MATCH
    reader[2 * rows + 1, width // 2 + chosen] = MATCH
    return reader


def _places(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Where prompts point, (P, K', 2): clicks and a box's centre; and as what, int64 (P, K')."""
    corners = box_columns(labels)
    clicks = [column for column in range(labels.shape[1]) if column not in corners]
    places = points[:, clicks]
    kinds = torch.where(labels[:, clicks] < 0, NOTHING, labels[:, clicks].long())
    if not corners:
        return places, kinds
    centre = points[:, corners].mean(1, keepdim=True)
    box = kinds.new_full((len(labels), 1), BOX)
    return torch.cat([places, centre], 1), torch.cat([kinds, box], 1)


def _sampled(features: NanoFeatures, places: Tensor) -> Tensor:
    """The embedding and the details at places (P, K, 2) canvas px, (P, K, 168), interpolated."""
    at = []
    for maps, cell in ((features.embedding, CELL), (features.detail, FINE)):
        size = sent(torch.tensor([maps.shape[3], maps.shape[2]]) * cell, places.device)
        grid = (places * 2 / size - 1)[None]
        found = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
        at.append(found[0].permute(1, 2, 0))
    return torch.cat(at, -1)
