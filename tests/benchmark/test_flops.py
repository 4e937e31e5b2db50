from __future__ import annotations

import numpy as np
import pytest
import torch

from everything import load
from everything.benchmark.cases import own_run
from everything.benchmark.flops import products_per_second, work_of
from everything.benchmark.types import BenchmarkCase, Key
from everything.kernels import loader
from tests import photos

PIXELS = np.zeros((4, 5, 3), np.uint8)


def case(of: str) -> BenchmarkCase:
    a, b, c = torch.ones(2, 3, 5), torch.ones(2, 5, 7), torch.zeros(2, 3, 7)
    products = {
        "bmm": lambda: torch.bmm(a, b),
        "into": lambda: torch.bmm(a, b, out=c),
        "added in place": lambda: c.baddbmm_(a, b),
        "one added in place": lambda: [c[i].addmm_(a[i], b[i]) for i in range(2)],
    }

    def run(pixels, timer):
        with timer.stage("encode"):
            torch.ones(2, 2) @ torch.ones(2, 2)
        with torch.inference_mode(), timer.stage("decode"):
            products[of]()
        return []

    return BenchmarkCase(Key("a", "grid"), run)


@pytest.mark.parametrize("of", ["bmm", "into", "added in place", "one added in place"])
def test_every_product_is_counted_where_it_happens(of: str):
    work = work_of(case(of), PIXELS)
    assert work is not None
    assert work.by_stage["decode"] == 2 * 2 * 3 * 5 * 7
    assert work.by_stage["encode"] == 2 * 2 * 2 * 2
    assert work.total == sum(work.by_stage.values())


def test_what_the_kernels_compute_is_counted_as_torchs_operations():
    pixels = photos.photo("chelsea")[:96, :128]
    counted = []
    for kernels in ("auto", "torch"):
        pipeline = load("nano", "grid", points_per_side=2, kernels=kernels)
        counted.append(work_of(BenchmarkCase(Key("nano", "grid"), own_run(pipeline)), pixels))
    assert loader.kernels is not None
    assert counted[0] is not None
    assert counted[0] == counted[1]
    assert counted[0].by_stage["decode"] > 4 * 1e7


def test_no_memory_is_no_figure_and_other_errors_are_raised():
    def run(pixels, timer):
        torch.empty(2**58)
        return []

    assert work_of(BenchmarkCase(Key("a", "grid"), run), PIXELS) is None

    def wrong(pixels, timer):
        raise IndexError

    with pytest.raises(IndexError):
        work_of(BenchmarkCase(Key("a", "grid"), wrong), PIXELS)


def test_the_machine_multiplies():
    assert 1e8 < products_per_second(torch.device("cpu")) < 1e16
