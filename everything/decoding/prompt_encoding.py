"""From points and labels to the prompt tokens of SAM's prompt encoder."""

from __future__ import annotations

from typing import Any

import torch
from segment_anything.modeling import PromptEncoder
from torch import Tensor, nn
from torch.nn import functional as F

from everything.core.device import sent
from everything.core.prompts import BOTTOM_RIGHT, PADDING, TOP_LEFT


def encode_sam(
    prompt_encoder: nn.Module, points: Tensor, labels: Tensor, masks: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the sparse (P, T', C) and dense (P or 1, C, h, w) embeddings of P prompts.

    points (P, K, 2) xy, px of the prompt encoder's frame, in the precision they should be scaled
    with. labels int64 (P, K): 1 inside, 0 outside, -1 padding, 2 and 3 a box's corners. Both are
    looked at, so they had better be on the processor. masks (P, 1, 4 h, 4 w): logits of mask
    prompts. Raises ValueError if only some of the prompts have a box, or its corners lie in
    different columns: the prompt encoder takes one layout at a time.
    """
    encoder: Any = prompt_encoder
    if points.shape != (*labels.shape, 2):
        raise ValueError(
            f"points {tuple(points.shape)} and labels {tuple(labels.shape)} "
            f"must be (P, K, 2) and (P, K)"
        )
    corners = box_columns(labels)
    others = [i for i in range(labels.shape[1]) if i not in corners]
    if isinstance(encoder, PromptEncoder):
        if not corners:
            points, labels = F.pad(points, (0, 0, 0, 1)), F.pad(labels, (0, 1), value=PADDING)
            others.append(labels.shape[1] - 1)
        columns = others + corners
        sparse = _tokens(encoder, points[:, columns], labels[:, columns])
        none = encoder.no_mask_embed.weight.view(1, -1, 1, 1)
        cells = encoder.image_embedding_size
        return sparse, none.expand(-1, -1, *cells) if masks is None else encoder._embed_masks(masks)
    device = next(encoder.parameters()).device
    if device.type == "mps":
        points = points.float()  # it has no other
    clicks = [sent(x[:, others], device) for x in (points, labels)]
    boxes = sent(points[:, corners].flatten(1), device) if corners else None
    sparse, dense = encoder(points=tuple(clicks) if others else None, boxes=boxes, masks=masks)
    return sparse, dense


def _tokens(encoder: Any, points: Tensor, labels: Tensor) -> Tensor:
    """SAM's encoding of points (P, K, 2) with any labels: (P, K, C), bit-identical.

    Its own code picks the points of each label by boolean masks, and a GPU makes the host wait at
    every one of them. Half a pixel is added and the frame divided by before points are sent, in
    their own precision, which a device may not have.
    """
    height, width = encoder.input_image_size
    places = ((points + 0.5) / points.new_tensor([width, height])).float()
    weights = [encoder.not_a_point_embed, *encoder.point_embeddings]
    table = torch.cat([embedding.weight for embedding in weights])  # of the labels -1 to 3
    places, labels = sent(places, table.device), sent(labels, table.device)
    code = encoder.pe_layer.forward_with_coords(places, (1, 1))
    code = code.masked_fill((labels == PADDING)[..., None], 0.0)
    return code + table[labels + 1]  # type: ignore[no-any-return]


def box_columns(labels: Tensor) -> list[int]:
    """Return the two columns of labels (P, K) that are the box's corners, or [] without a box.

    Raises ValueError if the rows differ.
    """
    if len(labels) == 0:
        return []
    corner = (labels == TOP_LEFT) | (labels == BOTTOM_RIGHT)
    columns = corner.any(0).nonzero()[:, 0].tolist()
    wanted = torch.tensor([TOP_LEFT, BOTTOM_RIGHT], device=labels.device)
    if columns and not (len(columns) == 2 and bool((labels[:, columns] == wanted).all())):
        raise ValueError(
            "of prompts decoded together, all have one box, its corners (labels 2 and 3) in the "
            "same two columns, or none has: decode the others separately"
        )
    return columns
