"""Random crops keep photo and labels together."""

from __future__ import annotations

import numpy as np
import torch

from everything.io.datasets.label_maps import LabelledImage
from everything.training.augment import RandomCrops


def halves() -> LabelledImage:
    photo = np.zeros((60, 90, 3), np.uint8)
    photo[:, 45:] = 255
    labels = np.ones((2, 60, 90), np.int16)
    labels[:, :, 45:] = 2
    return LabelledImage("halves", photo, labels)


def test_a_look_has_its_size_whatever_the_photos() -> None:
    crops = RandomCrops(sides=(64, 32))
    random = torch.Generator().manual_seed(0)
    for _ in range(5):
        crop = crops(halves(), random)
        assert crop.rgb.shape == (1, 3, 32, 64)
        assert crop.labels.shape == (2, 16, 32)
        assert 0 <= float(crop.rgb.min()) <= float(crop.rgb.max()) <= 1


def test_an_upright_photo_is_looked_at_upright() -> None:
    truth = halves()
    upright = LabelledImage(
        "upright", truth.pixels.transpose(1, 0, 2), truth.labels.transpose(0, 2, 1)
    )
    crop = RandomCrops(sides=(64, 32))(upright, torch.Generator().manual_seed(0))
    assert crop.rgb.shape == (1, 3, 64, 32)


def test_labels_go_where_the_pixels_go() -> None:
    random = torch.Generator().manual_seed(1)
    for _ in range(20):
        crop = RandomCrops(sides=(64, 32))(halves(), random)
        bright = torch.nn.functional.avg_pool2d(crop.rgb.mean(1), 2)[0]
        for labels in crop.labels:
            dark_side, bright_side = bright[labels == 1], bright[labels == 2]
            if len(dark_side) > 40 and len(bright_side) > 40:
                assert dark_side.median() < bright_side.median()


def test_outside_the_photo_nothing_is_known() -> None:
    tiny = LabelledImage("tiny", np.zeros((8, 8, 3), np.uint8), np.ones((1, 8, 8), np.int16))
    crop = RandomCrops(sides=(64, 32))(tiny, torch.Generator().manual_seed(0))
    assert 0 < int((crop.labels > 0).sum()) < crop.labels.numel() / 4


def test_the_same_seed_gives_the_same_look() -> None:
    a, b = (RandomCrops()(halves(), torch.Generator().manual_seed(7)) for _ in range(2))
    assert (a.rgb == b.rgb).all()
    assert (a.labels == b.labels).all()
