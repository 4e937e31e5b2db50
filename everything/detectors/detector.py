"""DetectorSettings: the choice of a detector. Detections: what each of them returns."""

from __future__ import annotations

from typing import Any, Protocol

from pydantic import Field, model_validator
from torch import Tensor

from everything.config import Settings
from everything.masks.masks import Decoded
from everything.pipeline.scene import Scene

BUNDLED = "regions"


class Detections(Protocol):
    """N objects in one view, most confident first."""

    @property
    def scores(self) -> Tensor:
        """Confidence, float32 (N,)."""
        ...

    @property
    def boxes(self) -> Tensor:
        """Boxes (N, 4) xyxy, view px."""
        ...

    def decoded(self, rows: slice) -> Decoded:
        """Return the masks of the objects in a slice of rows."""
        ...


class DetectorSettings(Settings):
    """The settings of a class-agnostic detector, by default those of MobileSAMv2 and FastSAM."""

    detector: str = Field(
        BUNDLED,
        description="the network that finds objects: regions (bundled), fastsam-s, fastsam-x, or "
        "the path of a YOLOv8-seg checkpoint (all but regions need ultralytics, AGPL-3.0)",
    )
    imgsz: int = Field(
        1024, ge=32, multiple_of=32, description="longest side of a YOLO's input, px"
    )
    conf: float = Field(
        0.3,
        ge=0,
        le=1,
        description="keep objects with a confidence above this; default 0.4 with a YOLO, as in "
        "MobileSAMv2 and FastSAM (the confidence of regions is a predicted IoU)",
    )
    iou: float = Field(
        0.9, ge=0, le=1, description="drop objects whose IoU with a better one is above this"
    )
    max_det: int = Field(300, ge=1, description="maximum number of objects per view")

    @model_validator(mode="before")
    @classmethod
    def _yolo_conf(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("detector", BUNDLED) != BUNDLED:
            return {"conf": 0.4} | given
        return given

    def prepare(self, variant: str) -> None:
        """Load the detector, so that one that cannot be read is reported before the first image.

        Raises:
            WeightsError: The detector's weights cannot be read.
        """
        if self.detector != BUNDLED:
            from everything.detectors import yolo

            yolo.load(self.detector)

    def detect(self, scene: Scene) -> Detections:
        """Return the objects in a scene's view.

        Raises:
            WeightsError: The detector's weights cannot be read.
        """
        # Imported here because each detector needs libraries that the others do not.
        if self.detector == BUNDLED:
            from everything.detectors import region_detector

            return region_detector.detect(scene, conf=self.conf, iou=self.iou, max_det=self.max_det)
        from everything.detectors import yolo

        return yolo.load(self.detector)(
            scene.view.pixels, imgsz=self.imgsz, conf=self.conf, iou=self.iou, max_det=self.max_det
        )
