"""YOLO checkpoints known by name, downloaded once; no SHA-256 of them is published."""

from __future__ import annotations

from everything.variants.checkpoints.weights import Weights

_ASSETS = "https://github.com/ultralytics/assets/releases/download/v8.4.0"
KNOWN = {
    "fastsam-s": Weights(f"{_ASSETS}/FastSAM-s.pt"),
    "fastsam-x": Weights(f"{_ASSETS}/FastSAM-x.pt"),
}
