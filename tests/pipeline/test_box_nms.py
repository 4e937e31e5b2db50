from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torchvision

from everything.pipeline.nms import box_nms


@pytest.mark.parametrize("count", [0, 1, 2, 500])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_it_is_torchvisions(count: int, threshold: float) -> None:
    corners = torch.rand(count, 2, 2, generator=torch.manual_seed(count)) * 50
    boxes = torch.cat([corners[:, 0], corners.sum(1)], 1)
    scores = torch.arange(count) % 7 / 7  # with ties
    expected = torchvision.ops.nms(boxes, scores, threshold)
    assert torch.equal(box_nms(boxes, scores, threshold), expected)


def test_a_process_that_loads_a_model_is_spared_the_compiler() -> None:
    lines = [
        "import sys",
        "from everything import load",
        "from everything.pipeline.nms import box_nms",
        "import torch",
        "load('ucm', 'grid-32')",
        "assert box_nms(torch.tensor([[0.0, 0, 9, 9]]), torch.ones(1), 0.5).tolist() == [0]",
        "heavy = {'torchvision', 'torch._dynamo', 'sympy', 'triton'}",
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
