"""A small YOLOv8-seg with random weights, pickled as ultralytics does."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from everything.detectors.yolo import quietly
from tests.photos import photo


def random_yolo(bins: int = 16, classes: int = 1, seed: int = 0) -> nn.Module:
    """YOLOv8n-seg whose confidences differ from place to place."""
    with quietly():
        tasks: Any = import_module("ultralytics.nn.tasks")
    torch.manual_seed(seed)
    layout = tasks.yaml_model_load("yolov8n-seg.yaml") | {"reg_max": bins}
    network: nn.Module = tasks.SegmentationModel(layout, nc=classes, verbose=False)
    for name, weight in network.named_parameters():
        if name.endswith("2.weight") and "cv3" in name:
            nn.init.normal_(weight, std=0.002)
        if name.endswith("2.bias") and "cv3" in name:
            nn.init.zeros_(weight)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    # One look at a photo: without its statistics the deep layers see nothing but their biases.
    pixels = torch.from_numpy(photo("coffee", 160)[:96]).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        network.train()(pixels)
    return network.eval()


def write_yolo(path: Path, network: nn.Module) -> Path:
    """Write what a training of ultralytics leaves, halves and all."""
    torch.save({"epoch": -1, "ema": None, "model": network.half(), "train_args": {"lr": 0.1}}, path)
    network.float()
    return path
