"""Lite-SAM learns, by nano's recipe, and what it learned loads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from everything.bundled.nano import frequencies
from everything.core.geometry import whole
from everything.core.prompts import Prompts
from everything.training.lite_sam import (
    LiteSamTraining,
    doubled_frequencies,
    predict,
    train_lite_sam,
    untrained,
)
from everything.training.loop import Budget
from everything.training.nano import Task
from everything.variants.checkpoints.reader import read_state
from everything.variants.networks.lite_sam import LiteVit, blueprint, build
from tests.photos import photo
from tests.training.test_nano import truth


def test_the_encoder_has_the_papers_size() -> None:
    with torch.device("meta"):
        encoder = LiteVit(512)
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(1.16e6, rel=0.01)


def test_answers_are_those_of_the_model_that_loads_the_weights() -> None:
    torch.manual_seed(0)
    net = untrained().eval()
    model = build(net.state_dict(), "nowhere")
    view = whole(np.ascontiguousarray(photo("astronaut", 512)[:352]))  # as long as the canvas
    clicks, boxes = torch.rand(3, 2) * 300, torch.tensor([[10.0, 20.0, 60.0, 90.0]])
    height, width = view.size
    rgb = torch.from_numpy(view.pixels).permute(2, 0, 1)[None].float() / 255
    nothing = torch.zeros(0)
    with torch.inference_mode():
        logits, scores = predict(net, rgb, Task(clicks, boxes, nothing, nothing, nothing))
        embedding = model.encode(view)
        clicked = model.propose(embedding, Prompts.clicks(clicks), True)
        boxed = model.propose(embedding, Prompts.boxes(boxes), False)
        drawn = torch.cat([clicked.draw(torch.arange(9)), boxed.draw(torch.arange(1))])
    rows, columns = logits.shape[2:]
    assert (rows, columns) == (height // 4, width // 4)
    expected = torch.cat([logits[:3, 1:].flatten(0, 1), logits[3:, 0]])
    torch.testing.assert_close(drawn[:, :rows, :columns], expected, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(clicked.scores, scores[:3, 1:].flatten(), atol=1e-4, rtol=1e-3)


def test_frequencies_are_nanos_and_as_many_between() -> None:
    few, many = frequencies(), doubled_frequencies(frequencies())
    assert many.shape == (2, 128)
    bands = many.unflatten(1, (4, 32))
    assert torch.equal(bands[:, :, :16].flatten(1), few)
    assert torch.allclose(bands[:, :, 16:].norm(dim=0), bands[:, :, :16].norm(dim=0), atol=1e-6)
    assert len(many.T.unique(dim=0)) == 128


@pytest.mark.slow
def test_the_loss_falls() -> None:
    training = LiteSamTraining([truth()], Budget(steps=10), 0, sides=((128, 96),))
    totals = torch.tensor([sum(training.step().values()) for _ in range(10)])
    assert totals.isfinite().all()
    assert totals[-3:].mean() < 0.95 * totals[:3].mean()


@pytest.mark.slow
def test_a_folder_becomes_weights_that_load(tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    Image.fromarray(truth().pixels).save(tmp_path / "images" / "a.png")
    np.save(tmp_path / "labels" / "a.npy", truth().labels)
    lines: list[str] = []
    file = train_lite_sam([tmp_path], tmp_path / "out", Budget(steps=1), on_message=lines.append)
    assert lines[0] == "1 images"
    assert "1 steps" in file.with_suffix(".md").read_text()
    assert read_state(file).keys() == blueprint().shapes().keys()
    build(read_state(file), str(file))
