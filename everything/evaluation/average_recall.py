"""COCO's average recall, class-agnostic, evaluated in groups of images to bound memory.

Masks are matched within an image, and recall is a quotient of two counts. So the counts of groups
can be added, with exactly the same result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_MASKS = (1, 10, 100, 1000)
SIZES = ("small", "medium", "large")  # by 32² and 96² px
_GROUP = 20_000  # masks and segments evaluated in one group: about 10 MB of run lengths
_Tree = dict[str, Any]


@dataclass
class AverageRecall:
    """Adds up the counts of faster-coco-eval's evaluator, image by image.

    Args:
        group: Evaluate the images held once they have this many masks and segments.
    """

    group: int = _GROUP
    _images: list[_Tree] = field(default_factory=list)
    _truths: list[_Tree] = field(default_factory=list)
    _masks: list[_Tree] = field(default_factory=list)
    # (IoU thresholds, areas all/small/medium/large, mask limits), (areas)
    _hits: NDArray[np.float64] = field(default_factory=lambda: np.zeros((10, 4, 4)))
    _wanted: NDArray[np.float64] = field(default_factory=lambda: np.zeros(4))

    def add(self, size: tuple[int, int], truths: list[_Tree], masks: list[_Tree]) -> None:
        """Add an image. Categories are ignored.

        Args:
            size: (H, W) of the image, px.
            truths: Ground-truth segments as in COCO's annotations: `segmentation` (compressed
                run-length encoding), `area`, `bbox`, `iscrowd`.
            masks: Masks as in COCO's results: `segmentation` and `score`.
        """
        image = len(self._images) + 1
        about = {"image_id": image, "category_id": 1}
        self._images.append({"id": image, "height": size[0], "width": size[1]})
        for row in truths:
            self._truths.append({"id": len(self._truths) + 1} | row | about)
        self._masks += [row | about for row in masks]
        if len(self._masks) + len(self._truths) >= self.group:
            self._evaluate()

    def scores(self) -> dict[str, float]:
        """Return AR at 1, 10, 100 and 1000 masks, and by size at 1000; NaN without segments."""
        self._evaluate()
        recall = np.full(self._hits.shape, np.nan)
        some = self._wanted > 0
        recall[:, some] = self._hits[:, some] / self._wanted[some][:, None]
        scores = {str(n): float(recall[:, 0, i].mean()) for i, n in enumerate(MAX_MASKS)}
        return scores | {n: float(recall[:, 1 + i, -1].mean()) for i, n in enumerate(SIZES)}

    def _evaluate(self) -> None:
        if not self._images:
            return
        evaluator = _evaluated(self._images, self._truths, self._masks)
        for i, (least, most) in enumerate(evaluator.params.areaRng):
            wanted = sum(
                not row.get("iscrowd") and least <= row["area"] <= most for row in self._truths
            )
            if wanted:
                self._hits[:, i] += np.rint(evaluator.eval["recall"][:, 0, i] * wanted)
                self._wanted[i] += wanted
        for rows in (self._images, self._truths, self._masks):
            rows.clear()


def _evaluated(images: list[_Tree], truths: list[_Tree], masks: list[_Tree]) -> Any:
    from faster_coco_eval import COCO
    from faster_coco_eval.core.faster_eval_api import COCOeval_faster

    categories = [{"id": 1, "name": "object"}]
    truth = COCO({"images": images, "annotations": truths, "categories": categories})
    found = truth.loadRes(masks)
    evaluator = COCOeval_faster(truth, found, "segm", print_function=_silent)
    evaluator.params.useCats = 0
    evaluator.params.maxDets = list(MAX_MASKS)
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator


def _silent(*_: object) -> None:
    """Discard the evaluator's printed output: its results are in the scores."""
