"""The choice of a detector, and the results of every detector."""

from __future__ import annotations

from typing import Any, Protocol

from pydantic import Field, model_validator
from torch import Tensor

from everything.config import Settings
from everything.core.masks import Decoded
from everything.pipeline.scene import Scene

EMBEDDED = "regions"


class Found(Protocol):
    """N objects of one view, most confident first."""

    @property
    def scores(self) -> Tensor:
        """Confidence, float32 (N,)."""
        ...

    @property
    def boxes(self) -> Tensor:
        """(N, 4) xyxy, px of the view."""
        ...

    def decoded(self, rows: slice) -> Decoded:
        """Return the masks of some of the objects."""
        ...


class Finder(Settings):
    """A class-agnostic detector, with MobileSAMv2's and FastSAM's settings."""

    detector: str = Field(
        EMBEDDED,
        description="regions (comes with the program), or a YOLOv8-seg checkpoint: a path, "
        "fastsam-s or fastsam-x (runs on ultralytics, AGPL-3.0)",
    )
    imgsz: int = Field(1024, ge=32, multiple_of=32, description="longest side that a YOLO sees, px")
    conf: float = Field(
        0.3,
        ge=0,
        le=1,
        description="an object's confidence, exceeded; 0.4 if not given with a YOLO, as of "
        "MobileSAMv2 and FastSAM (of regions it is a predicted IoU)",
    )
    iou: float = Field(0.9, ge=0, le=1, description="overlap, exceeded by duplicates")
    max_det: int = Field(300, ge=1, description="objects of one view at most")

    @model_validator(mode="before")
    @classmethod
    def _yolo_conf(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("detector", EMBEDDED) != EMBEDDED:
            return {"conf": 0.4} | given
        return given

    def find(self, scene: Scene) -> Found:
        """Return the objects in a scene's view.

        Raises:
            WeightsError: The detector's weights cannot be read.
        """
        # Imported here because each detector needs libraries that the others do not.
        if self.detector == EMBEDDED:
            from everything.detectors import region_detector

            return region_detector.find(scene, conf=self.conf, iou=self.iou, max_det=self.max_det)
        from everything.detectors import yolo

        return yolo.load(self.detector)(
            scene.view.pixels, imgsz=self.imgsz, conf=self.conf, iou=self.iou, max_det=self.max_det
        )
