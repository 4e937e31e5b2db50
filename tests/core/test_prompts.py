import pytest
import torch
from segment_anything.utils.amg import build_point_grid

from everything.core.prompts import Prompts, lattice


@pytest.mark.parametrize("n", [1, 2, 3, 16, 32, 64])
def test_lattice_is_segment_anythings(n: int):
    assert torch.equal(lattice(n), torch.from_numpy(build_point_grid(n)))


def test_lattice_needs_a_point():
    with pytest.raises(ValueError, match="at least 1"):
        lattice(0)


def test_cat_pads_clicks_beside_boxes():
    clicks = Prompts.clicks(torch.tensor([[1.0, 2.0]]))
    boxes = Prompts.boxes(torch.tensor([[0.0, 0.0, 4.0, 8.0]]))
    both = Prompts.cat([clicks, boxes])
    assert both.labels.tolist() == [[1, -1], [2, 3]]
    assert both.anchors().tolist() == [[1, 2], [2, 4]]
    assert both.box(0) is None
    assert both.box(1) == [0, 0, 4, 8]


def test_cat_of_nothing_is_no_prompts():
    assert len(Prompts.cat([])) == 0


def test_moved_shifts_every_point():
    moved = Prompts.boxes(torch.tensor([[0.0, 1.0, 2.0, 3.0]])).moved((10, 20))
    assert moved.box(0) == [10, 21, 12, 23]


def test_points_and_labels_must_agree():
    with pytest.raises(ValueError, match="must be"):
        Prompts(torch.zeros(2, 1, 2), torch.zeros(2, 2))
