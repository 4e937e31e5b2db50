"""What is recorded and replayed when; the recording itself needs a GPU: `python -m tests.gpu`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from everything.config import Compute
from everything.errors import ConfigError
from everything.variants.networks.cuda_graphs import MOST, Replay, Replayed
from everything.variants.networks.encoder_settings import configure_encoder


class Recorder:
    """Records as on a GPU: it runs the function once, and replays are not runs of Python's."""

    def __init__(self) -> None:
        self.recorded: list[tuple[int, ...]] = []
        self.replayed = 0

    def __call__(self, run: Replay, x: Tensor) -> Replay:
        self.recorded.append(tuple(x.shape))
        run(x)

        def replay(x: Tensor) -> Any:
            self.replayed += 1
            return run(x)

        return replay


def test_each_shape_and_each_constant_is_recorded_once():
    recorder = Recorder()
    function = Replayed(lambda x, scale=1.0: scale * x, recorder)
    for size in (3, 4, 3, 4, 3):
        assert torch.equal(function(torch.ones(size)), torch.ones(size))
    assert recorder.recorded == [(3,), (4,)]
    assert recorder.replayed == 5
    assert torch.equal(function(torch.ones(3), scale=2.0), 2 * torch.ones(3))
    assert torch.equal(function(torch.ones(3).double()), torch.ones(3).double())
    assert recorder.recorded == [(3,), (4,), (3,), (3,)]


def test_more_shapes_than_memory_is_kept_for_run_as_they_are():
    recorder = Recorder()
    function = Replayed(torch.neg, recorder)
    for size in range(1, MOST + 4):
        assert torch.equal(function(torch.ones(size)), -torch.ones(size))
    assert len(recorder.recorded) == recorder.replayed == MOST


def test_what_cannot_be_recorded_runs_as_it_is_with_one_warning(caplog: pytest.LogCaptureFixture):
    def fails(run: Replay, x: Tensor) -> Replay:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    function = Replayed(torch.neg, fails)
    for _ in range(3):
        assert torch.equal(function(torch.ones(2)), -torch.ones(2))
    assert [record.message for record in caplog.records] == [
        "no CUDA graph for inputs of (2,): operation not permitted when stream is capturing"
    ]


def test_memory_that_runs_out_while_recording_is_left_to_whoever_makes_batches_smaller():
    def fails(run: Replay, x: Tensor) -> Replay:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        Replayed(torch.neg, fails)(torch.ones(2))


def test_graphs_need_cuda():
    with pytest.raises(ConfigError, match="needs a CUDA GPU"):
        configure_encoder(torch.nn.Linear(1, 1), Compute(device="cpu", cuda_graphs=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_recorded_network_says_the_same():
    network = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU()).cuda()
    function, inputs = Replayed(network), torch.randn(3, 5, 8, device="cuda")
    with torch.inference_mode():
        found = [function(x) for x in inputs]
        for x, y in zip(inputs, found, strict=True):
            torch.testing.assert_close(y, network(x))
