"""Two samplers in sequence: the second prompts only where the first found nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field
from torch import Tensor

from everything.config import Settings
from everything.core.prompts import Prompts
from everything.masks.masks import Masks
from everything.pipeline.scene import Scene, prepare


class Combined(Settings):
    """Two samplers on one view, as in "object-aware+grid-32".

    Prompts of the second are skipped inside the boxes of the first one's masks. `first` and `then`
    hold the settings of the two.
    """

    largest: float = Field(
        0.5,
        ge=0,
        le=1,
        description="boxes above this share of the view do not exclude prompts",
    )
    first: Any
    then: Any

    def prepare(self, variant: str) -> None:
        """Prepare both samplers."""
        for sampler in (self.first, self.then):
            prepare(sampler, variant)

    def __call__(self, scene: Scene) -> Iterator[Masks]:
        """Yield the masks of the first sampler, then those of the second."""
        boxes = []
        for masks in self.first(scene):
            boxes.append(masks.segments.boxes)
            yield masks
        yield from self.then(UncoveredScene(scene, self._covering(boxes, scene)))

    def _covering(self, boxes: list[Tensor], scene: Scene) -> list[Tensor]:
        """The boxes (N, 4) xyxy, view px, inside which the second sampler does not prompt."""
        x, y = scene.view.box[:2]
        height, width = scene.view.size
        moved = [part - part.new_tensor([x, y, x, y]) for part in boxes]
        # A box's sides are inclusive px.
        areas = [(part[:, 2:] - part[:, :2] + 1).prod(1) for part in moved]
        limit = self.largest * height * width
        return [part[area <= limit] for part, area in zip(moved, areas, strict=True)]


class UncoveredScene(Scene):
    """A scene that skips prompts whose anchor is inside a box.

    Args:
        scene: The scene.
        covered: Boxes (N, 4) xyxy, inclusive view px, in parts.
    """

    def __init__(self, scene: Scene, covered: list[Tensor]) -> None:
        super().__init__(scene.model, scene.view, scene._recipe, scene._timer, scene._state)
        self._scene, self._covered = scene, covered

    @property
    def embedding(self) -> Any:
        """The view's image embedding, shared with the scene that this one is made from."""
        return self._scene.embedding

    def decode(self, prompts: Prompts, multimask_output: bool = True) -> Iterator[Masks]:
        """Yield the masks of those prompts (P rows, view px) that are outside all boxes."""
        anchors = prompts.anchors()
        for boxes in self._covered:
            x0, y0, x1, y1 = boxes.T[:, :, None]
            x, y = anchors.T
            free = ~((x >= x0) & (x < x1 + 1) & (y >= y0) & (y < y1 + 1)).any(0)
            prompts, anchors = prompts[free], anchors[free]
        yield from super().decode(prompts, multimask_output)
