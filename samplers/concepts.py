"""All instances of what short texts name, with the texts as their classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field, field_validator

from everything.config import Settings
from everything.core.prompts import Prompts
from everything.detectors import concepts as detector
from everything.errors import ConfigError
from everything.masks.masks import Masks
from everything.pipeline.scene import Scene

OWN = "sam3"  # the variant whose masks come from the same network
WORKING_SET = 64 * 2**20  # bytes of logits over the view that are processed in one batch


class Concepts(Settings):
    """SAM 3's promptable concepts (Carion et al., 2025).

    Its detector finds all instances of each text. With the variant sam3 their masks are the
    detector's own; with any other variant their boxes prompt it, as in object-aware.
    """

    concepts: list[str] = Field(
        [],
        description='what to find, as "person, red car": each becomes a class of the annotations',
    )
    model: str = Field(
        detector.OFFICIAL,
        description="SAM 3's detector: hf:ORG/NAME@COMMIT, or a folder in transformers' layout",
    )
    conf: float = Field(0.5, ge=0, le=1, description="keep instances with a score above this")

    @field_validator("concepts", mode="before")
    @classmethod
    def _one_by_one(cls, given: Any) -> Any:
        """Take a text with commas as a list; names are trimmed, and count once."""
        names = given.split(",") if isinstance(given, str) else given
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return given
        trimmed = [" ".join(name.split()) for name in names]
        return list(dict.fromkeys(name for name in trimmed if name))

    @field_validator("model")
    @classmethod
    def _pinned(cls, given: str) -> str:
        return detector.checked_model(given)

    def prepare(self, variant: str) -> None:
        """Load the detector, so that what cannot be used is reported before the first image.

        Raises:
            ConfigError: There are no concepts, or one is too long.
            WeightsError: The detector's weights are not available or cannot be read.
        """
        if not self.concepts:
            raise ConfigError(
                "sampler.concepts: nothing to find is named: give texts, as in "
                '--set sampler.concepts="person, car"'
            )
        network = detector.load(self.model)
        for concept in self.concepts:
            network.tokens(concept)

    def __call__(self, scene: Scene) -> Iterator[Masks]:
        """Yield the masks of each concept in turn, with its text as their class."""
        network = detector.load(self.model)
        answer = _own_masks if scene.variant == OWN else _prompted
        found = network.find(scene.view.pixels, self.concepts, self.conf, scene.device)
        for concept, instances in found:
            scene.finite(instances.scores)
            for masks in answer(scene, instances):
                yield masks.of_class(concept)


def _own_masks(scene: Scene, instances: detector.Instances) -> Iterator[Masks]:
    height, width = scene.view.size
    step = max(1, WORKING_SET // (4 * height * width))
    for start in range(0, len(instances), step):
        yield scene.accept(instances.decoded(slice(start, start + step)))


def _prompted(scene: Scene, instances: detector.Instances) -> Iterator[Masks]:
    boxes = instances.boxes[(instances.boxes[:, :2] < instances.boxes[:, 2:]).all(1)]
    yield from scene.decode(Prompts.boxes(boxes), multimask_output=False)
