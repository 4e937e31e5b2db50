"""From a head's maps to prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from everything.core.geometry import Frame, padded_frame
from everything.detectors import prompt_head
from everything.detectors.prompt_head import UNIT, HeadOutput, PromptHead, cells, propose
from everything.errors import WeightsError

SETTINGS = {"conf": 0.3, "iou": 0.7, "max_points": 10, "max_boxes": 10}


def answer(grid: tuple[int, int], peaks: dict[tuple[int, int], float], reach: float, side: int):
    """Confidence 0 but at some cells; every box reaches as far to all sides, canvas px."""
    confidence = torch.full((1, *grid), -20.0)
    for at, value in peaks.items():
        confidence[0, *at] = torch.logit(torch.tensor(value))
    sides = torch.full((1, 4, *grid), reach * UNIT / side).log()
    return HeadOutput(confidence, sides)


def test_peaks_become_points_and_boxes_in_px_of_the_view():
    frame = Frame((50, 100), (40, 80), (0, 0, 80, 40))
    found = propose(answer((4, 8), {(1, 2): 0.9, (3, 7): 0.6}, 5, 80), frame, **SETTINGS)
    # A cell has 10 px of the canvas, which are 12.5 px of the view.
    assert found.points.tolist() == [[31.25, 18.75], [93.75, 43.75]]
    expected = torch.tensor([[25.0, 12.5, 37.5, 25], [87.5, 37.5, 100, 50]], dtype=torch.float64)
    assert torch.allclose(found.boxes, expected, atol=1e-4)


def test_boxes_are_clipped_to_the_view_and_padding_is_not_asked():
    frame = padded_frame((40, 80), 80)
    found = propose(answer((8, 8), {(0, 0): 0.9, (6, 2): 0.95}, 30, 80), frame, **SETTINGS)
    assert found.points.tolist() == [[5, 5]]
    assert torch.allclose(found.boxes, torch.tensor([[0, 0, 35, 35]]).double(), atol=1e-4)


def test_only_the_highest_of_neighbours_is_a_point_and_of_alike_boxes_a_box():
    frame = Frame((80, 80), (80, 80), (0, 0, 80, 80))
    found = propose(answer((8, 8), {(3, 3): 0.9, (3, 4): 0.8}, 40, 80), frame, **SETTINGS)
    assert found.points.tolist() == [[35, 35]]
    assert len(found.boxes) == 1
    apart = propose(answer((8, 8), {(3, 3): 0.9, (3, 4): 0.8}, 4, 80), frame, **SETTINGS)
    assert len(apart.boxes) == 2


def test_no_more_than_asked_for_and_nothing_below_conf():
    frame = Frame((80, 80), (80, 80), (0, 0, 80, 80))
    peaks = {(y, x): 0.4 + 0.05 * y for y in (0, 2, 4, 6) for x in (0, 2, 4, 6)}
    found = propose(answer((8, 8), peaks, 3, 80), frame, **SETTINGS | {"max_points": 5})
    assert (len(found.points), len(found.boxes)) == (5, 10)
    assert found.points[:4, 1].tolist() == [65] * 4
    nothing = propose(answer((8, 8), peaks, 3, 80), frame, **SETTINGS | {"conf": 0.9})
    assert (len(nothing.points), len(nothing.boxes)) == (0, 0)
    assert nothing.boxes.shape == (0, 4)


def test_cells_lie_in_the_middle():
    centres = cells((10, 40), (2, 4))
    assert centres.shape == (2, 4, 2)
    assert centres[0, 0].tolist() == [5, 2.5]
    assert centres[1, 3].tolist() == [35, 7.5]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3)])
def test_a_head_takes_maps_of_any_size(size: tuple[int, int]):
    torch.manual_seed(0)
    head = PromptHead(6, 8)
    said = head(torch.randn(1, 6, *size))
    assert said.confidence.shape == (1, 2 * size[0], 2 * size[1])
    assert said.sides.shape == (1, 4, 2 * size[0], 2 * size[1])


def test_a_head_comes_back_from_its_file(tmp_path: Path):
    torch.manual_seed(0)
    head, features = PromptHead(6, 8), torch.randn(1, 6, 4, 5)
    save_file(head.state_dict(), tmp_path / "head.safetensors")
    again = prompt_head.load(tmp_path / "head.safetensors")
    assert torch.equal(head(features).sides, again(features).sides)


def test_files_that_are_no_heads_are_refused(tmp_path: Path):
    save_file({"enter.weight": torch.zeros(4, 2, 1, 1)}, tmp_path / "half.safetensors")
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no")
    for name in ("half", "other", "text", "absent"):
        with pytest.raises(WeightsError, match=name):
            prompt_head.load(tmp_path / f"{name}.safetensors")
