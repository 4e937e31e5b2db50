"""YOLO checkpoints that have a name and are fetched once; nobody has published their SHA-256."""

from __future__ import annotations

from everything.variants.checkpoints.reader import Weights

_ASSETS = "https://github.com/ultralytics/assets/releases/download/v8.4.0"
KNOWN = {
    "fastsam-s": Weights(f"{_ASSETS}/FastSAM-s.pt"),
    "fastsam-x": Weights(f"{_ASSETS}/FastSAM-x.pt"),
}
