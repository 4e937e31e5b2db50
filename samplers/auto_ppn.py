"""Points and boxes that a small head proposes from the variant's own image features."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from pydantic import Field

from everything.config import Settings
from everything.core.prompts import Prompts
from everything.detectors import prompt_head
from everything.errors import ConfigError
from everything.masks.masks import Masks
from everything.pipeline.scene import Scene

BUNDLED = "embedded"


class AutoPpn(Settings):
    """Automatic prompts after Lite-SAM (Fu et al., 2024), with a head designed here.

    A head on the variant's feature maps proposes points, with three masks each, and boxes, with
    one mask each. A head works only with the variant that it was trained on.
    """

    head: str = Field(
        BUNDLED,
        description="embedded (the bundled head; some variants have one), or the path of a head "
        "trained with `everything train auto-ppn`",
    )
    conf: float = Field(0.1, ge=0, le=1, description="keep prompts with a confidence above this")
    iou: float = Field(
        0.7, ge=0, le=1, description="drop boxes whose IoU with a better one is above this"
    )
    max_points: int = Field(160, ge=0, description="maximum number of points per view")
    max_boxes: int = Field(96, ge=0, description="maximum number of boxes per view")

    def prepare(self, variant: str) -> None:
        """Load the head, so that one that cannot be read is reported before the first image.

        Raises:
            ConfigError: There is no head for the variant.
            WeightsError: The head cannot be read.
        """
        prompt_head.load(self._path(variant))

    def __call__(self, scene: Scene) -> Iterator[Masks]:
        """Yield the masks of the points, then those of the boxes.

        Raises:
            ConfigError: There is no head for the variant.
            WeightsError: The head cannot be read.
            NotFinite: As for `Scene.decode`.
        """
        features = scene.model.features(scene.embedding)
        head = prompt_head.load(self._path(scene.variant), features.device)
        if features.shape[1] != len(head.mean):
            raise ConfigError(
                f"{self.head}: this head was trained on {len(head.mean)} feature maps, "
                f"{scene.variant} has {features.shape[1]}: train one for it with "
                f"`everything train auto-ppn --variant {scene.variant}`"
            )
        output = prompt_head.HeadOutput(*(maps.cpu() for maps in head(features)))
        scene.finite(output.confidence)
        proposals = prompt_head.propose(
            output,
            scene.frame,
            conf=self.conf,
            iou=self.iou,
            max_points=self.max_points,
            max_boxes=self.max_boxes,
        )
        yield from scene.decode(Prompts.clicks(proposals.points))
        yield from scene.decode(Prompts.boxes(proposals.boxes), multimask_output=False)

    def _path(self, variant: str) -> Path:
        if self.head != BUNDLED:
            return Path(self.head)
        name = f"auto_ppn_{variant.replace('-', '_')}.safetensors"
        path = Path(str(files("everything.bundled") / "weights" / name))
        if not path.is_file():
            raise ConfigError(
                f"{variant} has no bundled auto-ppn head: train one with "
                f"`everything train auto-ppn --variant {variant}` and give its path as "
                f"sampler.head"
            )
        return path
