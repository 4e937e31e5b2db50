"""ucm, the bundled default model: a region tree that answers prompts as a SAM does."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from everything.bundled import region_selection
from everything.bundled.boundary_net import Scales
from everything.bundled.click_regions import Clicks
from everything.bundled.pretrained_boundary_net import PretrainedBoundaryNet
from everything.bundled.region_masks import draw
from everything.bundled.region_tree import Ints
from everything.bundled.ucm import (
    Contours,
    RegionEmbedding,
    Ucm,
    describe_regions,
    find_contours,
    rate,
    score,
)
from everything.config import Compute, Decoding
from everything.core.device import DEFAULT_DECODING, ON_CPU, PRECISIONS, device_of
from everything.core.geometry import Frame, Size, View
from everything.core.prompts import INSIDE, OUTSIDE, Prompts
from everything.core.protocols import Candidates
from everything.core.threads import usable_cores
from everything.errors import ConfigError
from everything.variants.checkpoints.key_mapping import Blueprint
from everything.variants.checkpoints.reader import State
from everything.variants.spec import check_supported

CANVAS = 640  # px; longer views are reduced to this


@dataclass(frozen=True)
class RegionCandidates:
    """Regions as candidate masks, see `Candidates`; `identity` is the region's node."""

    embedding: RegionEmbedding
    scores: Tensor
    prompt: Tensor
    level: Tensor
    identity: Tensor

    def draw(self, rows: Tensor) -> Tensor:
        """Return the logits of rows int64 (K,), float32 (K, h, w) over the canvas."""
        return draw(self.embedding.regions, self.identity[rows].tolist())


class UcmModel:
    """The region tree as a `Model`.

    Its canvas is the view itself, reduced if its longest side exceeds 640 px. The boundary network
    is on the device, all else on the CPU: region trees are built there, and masks drawn.

    Args:
        network: With its weights; its boundary network is moved to the device.
        compute: Device and precision of the boundary network.
        scales: See everything/bundled/boundary_net.py; None for the network's own.

    Raises:
        ConfigError: The device is not available, or torch.compile or CUDA graphs are asked for:
            views have many sizes, and each would be compiled or recorded.
    """

    def __init__(
        self, network: Ucm, compute: Compute = ON_CPU, scales: Scales | None = None
    ) -> None:
        if compute.compile:
            raise ConfigError(
                "compute.compile: the bundled model ucm is not compiled: drop --compile"
            )
        if compute.cuda_graphs:
            raise ConfigError("compute.cuda_graphs: not for the bundled model ucm: leave it out")
        self.scales = scales
        self.network = network.eval().requires_grad_(False)
        self.network.boundary.to(device_of(compute))
        self.network.boundary.to(memory_format=torch.channels_last)
        self.precision = PRECISIONS.get(compute.precision)

    def frame(self, view: Size) -> Frame:
        """Return where a view of (h, w) px lies on the canvas, which it fills."""
        scale = min(1.0, CANVAS / max(view))
        height, width = (max(1, round(side * scale)) for side in view)
        return Frame(view, (height, width), (0, 0, width, height), "one-step")

    def encode(self, view: View) -> RegionEmbedding:
        """Return the regions of a view."""
        contours = self._contours(view)
        return rate(self.network.scorer, contours, *describe_regions(contours))

    def encode_batch(self, views: Sequence[View]) -> list[RegionEmbedding]:
        """Return the regions of each view.

        The network runs on one view after the other; threads build the trees of those that it is
        done with. So a view's regions do not depend on the others.
        """
        different = {id(view): view for view in views}  # batches are filled up with copies
        begun = {}
        with ThreadPoolExecutor(min(len(different), usable_cores())) as pool:
            for key, view in different.items():
                contours = self._contours(view)
                begun[key] = contours, pool.submit(describe_regions, contours)
        found = {
            key: rate(self.network.scorer, contours, *tree.result())
            for key, (contours, tree) in begun.items()
        }
        return [found[id(view)] for view in views]

    def _contours(self, view: View) -> Contours:
        pixels = self._pixels(view)
        return find_contours(self.network.boundary, pixels, self.precision, self.scales)

    def _pixels(self, view: View) -> NDArray[np.uint8]:
        height, width = self.frame(view.size).canvas
        if view.size == (height, width):
            return view.pixels
        image = Image.fromarray(view.pixels).resize((width, height), Image.Resampling.LANCZOS)
        return np.asarray(image)

    def features(self, embedding: RegionEmbedding) -> Tensor:
        """Return the boundary network's features, float32 (1, 72, h', w') over the canvas, on its
        device."""
        return embedding.maps

    def propose(
        self, embedding: RegionEmbedding, prompts: Prompts, multimask_output: bool
    ) -> Candidates:
        """Return nested regions around clicks and the regions that fit boxes best.

        A box counts before points that come with it. The score of an answer to a box is the
        geometric mean of its region's and of the IoU of the boxes.
        """
        count = 3 if multimask_output else 1
        nodes = np.empty((len(prompts), count), np.int64)
        scores = np.empty(nodes.shape, np.float32)
        simple = ((prompts.labels == INSIDE).sum(1) == 1) & ((prompts.labels >= 0).sum(1) == 1)
        clicks = simple.nonzero().flatten().numpy()
        points = prompts.points[clicks][prompts.labels[clicks] == INSIDE]
        nodes[clicks], expected = self._of_clicks(embedding, _pixels(embedding, points), count)
        scores[clicks] = score(embedding.match[nodes[clicks]], expected)
        for i in (~simple).nonzero().flatten().tolist():
            nodes[i], fit = _of_one(embedding, prompts, i, count)
            quality = embedding.quality[nodes[i]]
            scores[i] = np.where(fit < 1, np.sqrt(quality * fit), quality)
        rows = torch.arange(nodes.size)
        return RegionCandidates(
            embedding,
            torch.from_numpy(scores.ravel()),
            rows // count,
            rows % count,
            torch.from_numpy(nodes.ravel()),
        )

    def _of_clicks(
        self, embedding: RegionEmbedding, points: Ints, count: int
    ) -> tuple[Ints, NDArray[np.float64]]:
        regions, region_scores = embedding.regions, embedding.region_scores
        found = Clicks.at(regions, points)
        nodes, place = torch.from_numpy(found.nodes), torch.from_numpy(found.place)
        with torch.inference_mode():
            vote = self.network.scorer.clicked(region_scores, nodes, place)
        return region_selection.of_clicks(regions, found, vote.numpy(), count)


def _of_one(
    embedding: RegionEmbedding, prompts: Prompts, row: int, count: int
) -> tuple[Ints, NDArray[np.float64] | float]:
    """Regions for a box or several points, and their IoU with the box (1 without one)."""
    if (box := prompts.box(row)) is not None:
        return region_selection.of_box(embedding.regions, np.array(box), count)
    points, labels = prompts.points[row], prompts.labels[row]
    regions, vote = embedding.regions, embedding.region_scores.vote.numpy()
    inside, outside = (
        regions.at(*_pixels(embedding, points[labels == sign]).T) for sign in (INSIDE, OUTSIDE)
    )
    return region_selection.of_points(regions, vote, inside, outside, count), 1.0


def _pixels(embedding: RegionEmbedding, points: Tensor) -> Ints:
    """Pixels (P, 2) xy of points, canvas px; points beyond the edge are moved to it."""
    height, width = embedding.regions.place.shape
    pixels: Ints = np.clip(points.floor().long().numpy(), 0, [width - 1, height - 1])
    return pixels


def blueprint(backbone: str = "none") -> Blueprint[Ucm]:
    """Return the two networks, their weights named as in the code.

    Args:
        backbone: Encoder of the boundary network: "none" or "lite0".
    """
    return Blueprint(Ucm(PretrainedBoundaryNet() if backbone == "lite0" else None))


def architecture(state: State) -> str:
    """Return the `backbone` that weights are of."""
    return "lite0" if any(name.startswith("boundary.encoder.") for name in state) else "none"


def build(
    state: State,
    path: str,
    compute: Compute = ON_CPU,
    decoding: Decoding = DEFAULT_DECODING,
    backbone: str = "none",
) -> UcmModel:
    """Build the model: see `sam.build`.

    Args:
        state: Tells the backbone: a checkpoint of either architecture is taken.
        path: For errors.
        compute: See `UcmModel`.
        decoding: Refused where it asks for the plain decoder.
        backbone: Of the variant's own weights.

    Raises:
        ConfigError: Also for the plain decoder.
    """
    check_supported("ucm", compute, decoding, batches=True)
    return UcmModel(blueprint(architecture(state)).load(state, path), compute)
