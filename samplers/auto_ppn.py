"""Points and boxes that a small head proposes from the variant's own image features."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from pydantic import Field

from everything.config import Settings
from everything.core.masks import Masks
from everything.core.prompts import Prompts
from everything.detectors import prompt_head
from everything.errors import ConfigError
from everything.pipeline.scene import Scene

EMBEDDED = "embedded"


class AutoPpn(Settings):
    """Lite-SAM's automatic prompts (Fu et al., 2024), in a design of this program.

    A head on the variant's feature maps proposes points, of which each gets three masks, and
    boxes, of which each gets one. A head fits the variant that it was trained on.
    """

    head: str = Field(
        EMBEDDED,
        description="embedded (comes with the program, for some variants), or a head that "
        "`everything train auto-ppn` made: a path",
    )
    conf: float = Field(0.1, ge=0, le=1, description="a prompt's confidence, exceeded")
    iou: float = Field(0.7, ge=0, le=1, description="overlap of boxes, exceeded by duplicates")
    max_points: int = Field(160, ge=0, description="points of one view at most")
    max_boxes: int = Field(96, ge=0, description="boxes of one view at most")

    def __call__(self, scene: Scene) -> Iterator[Masks]:
        """Yield the masks of the points, then those of the boxes.

        Raises:
            ConfigError: There is no head for the variant.
            WeightsError: The head cannot be read.
            NotFinite: As for `Scene.decode`.
        """
        features = scene.model.features(scene.embedding)
        head = prompt_head.load(self._path(scene), features.device)
        if features.shape[1] != len(head.mean):
            raise ConfigError(
                f"{self.head}: this head was trained on {len(head.mean)} feature maps, "
                f"{scene.variant} has {features.shape[1]}: train one with "
                f"`everything train auto-ppn --variant {scene.variant}`"
            )
        answer = prompt_head.Answer(*(maps.cpu() for maps in head(features)))
        scene.finite(answer.confidence)
        proposals = prompt_head.propose(
            answer,
            scene.frame,
            conf=self.conf,
            iou=self.iou,
            max_points=self.max_points,
            max_boxes=self.max_boxes,
        )
        yield from scene.decode(Prompts.clicks(proposals.points))
        yield from scene.decode(Prompts.boxes(proposals.boxes), multimask_output=False)

    def _path(self, scene: Scene) -> Path:
        if self.head != EMBEDDED:
            return Path(self.head)
        name = f"auto_ppn_{scene.variant.replace('-', '_')}.safetensors"
        path = Path(str(files("everything.bundled") / "weights" / name))
        if not path.is_file():
            raise ConfigError(
                f"no auto-ppn head for {scene.variant} comes with the program: train one with "
                f"`everything train auto-ppn --variant {scene.variant}` and name it in sampler.head"
            )
        return path
