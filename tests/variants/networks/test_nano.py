import numpy as np
import pytest
import skimage.data
import torch

from everything.bundled.nano import Nano
from everything.core.geometry import View, whole
from everything.core.prompts import Prompts, lattice
from everything.training.nano import Task, predict
from everything.variants import VARIANTS
from everything.variants.checkpoints.reader import read_state
from everything.variants.networks.nano import NanoModel, build


@pytest.fixture(scope="module")
def model() -> NanoModel:
    torch.manual_seed(0)
    return build(Nano().half().state_dict(), "nowhere")


def photo(height: int, width: int) -> View:
    return whole(np.ascontiguousarray(skimage.data.astronaut()[:height, :width]))


@pytest.mark.parametrize(("height", "width"), [(300, 400), (401, 77)])
def test_answers_are_those_of_the_network_that_was_trained(
    model: NanoModel, height: int, width: int
) -> None:
    view = photo(height, width)
    clicks, boxes = torch.rand(3, 2) * 200, torch.tensor([[10.0, 20.0, 60.0, 90.0]])
    with torch.inference_mode():
        embedding = model.encode(view)
        clicked = model.propose(embedding, Prompts.clicks(clicks), True)
        boxed = model.propose(embedding, Prompts.boxes(boxes), False)
        nothing = torch.zeros(0)
        task = Task(clicks, boxes, nothing, nothing, nothing)
        logits, scores = predict(model.network, model.pixels(view), task)
    rows, columns = logits.shape[2:]
    drawn = torch.cat([clicked.draw(torch.arange(9)), boxed.draw(torch.arange(1))])
    expected = torch.cat([logits[:3, 1:].flatten(0, 1), logits[3:, 0]])
    torch.testing.assert_close(drawn[:, :rows, :columns], expected, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(clicked.scores, scores[:3, 1:].flatten(), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(boxed.scores, scores[3:, 0], atol=1e-4, rtol=1e-3)


def test_masks_are_drawn_on_the_photo_alone(model: NanoModel) -> None:
    view = photo(100, 400)
    frame = model.frame(view.size)
    assert frame.canvas == (512, 512)
    assert frame.content == (0, 0, 512, 128)
    with torch.inference_mode():
        embedding = model.encode(view)
        drawn = model.propose(embedding, Prompts.clicks(torch.zeros(1, 2)), True).draw(
            torch.tensor([2, 0])
        )
    assert embedding.embedding.shape == (1, 128, 32, 32)
    assert drawn.shape == (2, 128, 128)
    assert bool((drawn[:, 32:] < -10).all())
    assert frame.to_view(drawn).shape == (2, 100, 400)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (512, 512)])
def test_any_photo_is_answered(model: NanoModel, height: int, width: int) -> None:
    with torch.inference_mode():
        embedding = model.encode(photo(height, width))
        candidates = model.propose(embedding, Prompts.clicks(torch.zeros(2, 2)), True)
        assert candidates.draw(torch.arange(6)).isfinite().all()
        assert len(model.propose(embedding, Prompts.clicks(torch.zeros(0, 2)), True).scores) == 0


@pytest.mark.parametrize("name", ["nano", "nano-lite0"])
def test_the_weights_that_ship_answer_where_they_were_asked(name: str) -> None:
    record = VARIANTS[name]
    path = record.weights.path()
    shipped = build(read_state(path), str(path))
    assert sum(p.numel() for p in shipped.network.parameters()) == record.parameters
    view = whole(skimage.data.astronaut())
    clicks = lattice(6) * 512
    with torch.inference_mode():
        candidates = shipped.propose(shipped.encode(view), Prompts.clicks(clicks), True)
        best = candidates.scores.view(-1, 3).argmax(1) + 3 * torch.arange(36)
        masks = shipped.frame(view.size).to_view(candidates.draw(best)) > 0
    x, y = clicks.long().T
    assert masks[torch.arange(36), y, x].float().mean() > 0.85
    assert masks.float().mean() < 0.5  # not by answering with everything
    # The astronaut's helmet is one thing and the wall behind her is another.
    helmet, wall = masks[28], masks[3]
    assert (helmet & wall).sum() < 0.1 * helmet.sum()
