"""ucm behind the protocol, with the weights that ship."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from everything.bundled.ucm import RegionEmbedding, boundary_map
from everything.config import Filters
from everything.core.geometry import whole
from everything.core.prompts import Prompts
from everything.errors import WeightsError
from everything.pipeline.filtering import promising
from everything.variants import VARIANTS
from everything.variants.checkpoints.reader import read_state
from everything.variants.networks.ucm import CANVAS, UcmModel, architecture, build

WEIGHTS = Path(str(files("everything.bundled") / "weights" / "ucm.safetensors"))
EYE = torch.tensor([[173.0, 117.0]])  # the left eye of the cat


@pytest.fixture(scope="module")
def model() -> UcmModel:
    return build(read_state(WEIGHTS), str(WEIGHTS))


@pytest.fixture(scope="module")
def cat(model: UcmModel) -> RegionEmbedding:
    return model.encode(whole(data.chelsea()))


def test_the_package_stays_small() -> None:
    assert WEIGHTS.stat().st_size < 6e6


def test_a_click_has_three_nested_answers(model: UcmModel, cat: RegionEmbedding) -> None:
    candidates = model.propose(cat, Prompts.clicks(EYE), True)
    assert candidates.prompt.tolist() == [0, 0, 0]
    assert candidates.level.tolist() == [0, 1, 2]
    masks = candidates.draw(torch.arange(3)) > 0
    assert masks[:, 117, 173].all()
    areas = masks.flatten(1).sum(1)
    assert areas[0] < areas[1] < areas[2]
    assert (masks[0] <= masks[1]).all()
    assert (masks[1] <= masks[2]).all()
    assert ((candidates.scores > 0) & (candidates.scores < 1)).all()


def test_one_of_them_is_the_eye(model: UcmModel, cat: RegionEmbedding) -> None:
    y, x = np.indices(data.chelsea().shape[:2])
    eye = ((x - 173) / 27) ** 2 + ((y - 116) / 27) ** 2 < 1
    candidates = model.propose(cat, Prompts.clicks(EYE), True)
    masks = (candidates.draw(torch.arange(3)) > 0).numpy()
    overlaps = [(m & eye).sum() / (m | eye).sum() for m in masks]
    assert max(overlaps) > 0.5


@pytest.fixture(scope="module")
def many() -> Prompts:
    y, x = np.indices((10, 14)).reshape(2, -1) * 30 + 15
    return Prompts.clicks(torch.from_numpy(np.stack([x, y], 1)))


def test_the_preferred_answer_is_mostly_what_a_single_one_would_be(
    model: UcmModel, cat: RegionEmbedding, many: Prompts
) -> None:
    three, one = (model.propose(cat, many, several) for several in (True, False))
    preferred = three.scores.reshape(-1, 3).argmax(1)
    chosen = three.identity.reshape(-1, 3).gather(1, preferred[:, None])[:, 0]
    assert float((chosen == one.identity).double().mean()) > 0.5


def test_a_region_is_scored_by_what_each_click_means_and_kept_with_the_best(
    model: UcmModel, cat: RegionEmbedding, many: Prompts
) -> None:
    candidates = model.propose(cat, many, True)
    kept = promising(candidates, Filters(pred_iou_thresh=0))
    said = {
        int(node): candidates.scores[candidates.identity == node]
        for node in candidates.identity.unique()
    }
    assert max(float(scores.max() - scores.min()) for scores in said.values()) > 0.1
    assert len(kept) == len(said)
    for row in kept.tolist():
        assert candidates.scores[row] == said[int(candidates.identity[row])].max()


def test_a_region_answers_its_own_box(model: UcmModel, cat: RegionEmbedding) -> None:
    small = model.propose(cat, Prompts.clicks(EYE), True)
    node = int(small.identity[0])
    box = torch.from_numpy(cat.regions.boxes[node]).double()[None]
    candidates = model.propose(cat, Prompts.boxes(box), False)
    assert len(candidates.scores) == 1
    found = cat.regions.boxes[int(candidates.identity[0])]
    assert found.tolist() == cat.regions.boxes[node].tolist()


def test_points_outside_make_the_answer_smaller(model: UcmModel, cat: RegionEmbedding) -> None:
    corner = torch.tensor([[[173.0, 117.0], [2.0, 2.0]]])
    both = Prompts(corner.double(), torch.tensor([[1, 0]]))
    masks = model.propose(cat, both, True).draw(torch.arange(3)) > 0
    assert masks[:, 117, 173].all()
    assert not masks[:, 2, 2].any()


def test_prompts_of_all_kinds_keep_their_order(model: UcmModel, cat: RegionEmbedding) -> None:
    box = Prompts.boxes(torch.tensor([[145.0, 88, 202, 145]]))
    kinds = [Prompts.clicks(EYE), box, Prompts.clicks(EYE + 40)]
    together = model.propose(cat, Prompts.cat(kinds), True)
    alone = [model.propose(cat, kind, True) for kind in kinds]
    assert together.identity.tolist() == [n for one in alone for n in one.identity.tolist()]
    assert torch.equal(together.scores, torch.cat([one.scores for one in alone]))
    assert together.prompt.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_no_prompts_have_no_answers(model: UcmModel, cat: RegionEmbedding) -> None:
    candidates = model.propose(cat, Prompts.clicks(torch.zeros(0, 2)), True)
    assert len(candidates.scores) == 0
    assert candidates.draw(torch.arange(0)).shape[0] == 0


def test_points_beyond_the_edge_are_on_it(model: UcmModel, cat: RegionEmbedding) -> None:
    beyond = model.propose(cat, Prompts.clicks(torch.tensor([[-9.0, -9], [9999, 9999]])), False)
    edge = model.propose(cat, Prompts.clicks(torch.tensor([[0.5, 0.5], [450.5, 299.5]])), False)
    assert beyond.identity.tolist() == edge.identity.tolist()


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (300, 1), (33, 65), (8, 2000)])
def test_any_shape_is_encoded(model: UcmModel, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    view = whole(pixels)
    frame = model.frame(view.size)
    assert max(frame.canvas) <= CANVAS
    embedding = model.encode(view)
    centre = frame.to_canvas(torch.tensor([[shape[1] / 2, shape[0] / 2]]))
    candidates = model.propose(embedding, Prompts.clicks(centre), True)
    logits = frame.to_view(candidates.draw(torch.arange(3)))
    assert logits.shape == (3, *shape)
    assert (logits.flatten(1) > 0).any(1).all()


@pytest.mark.parametrize(("shape", "reduced"), [((300, 1), False), ((300, 200), True)])
def test_images_of_one_cell_are_encoded_in_float32(
    model: UcmModel, shape: tuple[int, int], reduced: bool
) -> None:
    network = model.network.boundary
    found: list[torch.dtype] = []
    hook = network.get_submodule("to32.2").register_forward_hook(
        lambda module, inputs, output: found.append(output.dtype)
    )
    boundary_map(network, torch.rand(1, 3, *shape), torch.bfloat16)
    hook.remove()
    assert set(found) == {torch.bfloat16 if reduced else torch.float32}


def test_pixels_may_be_read_only(model: UcmModel, cat: RegionEmbedding) -> None:
    pixels = data.chelsea()
    pixels.setflags(write=False)
    assert len(model.encode(whole(pixels)).regions) == len(cat.regions)


def test_one_colour_is_one_object(model: UcmModel) -> None:
    grey = whole(np.full((64, 80, 3), 128, np.uint8))
    candidates = model.propose(model.encode(grey), Prompts.clicks(torch.tensor([[40.0, 30]])), True)
    assert bool((candidates.draw(torch.arange(3))[2] > 0).float().mean() > 0.9)


def test_a_batch_has_the_regions_of_its_views(
    model: UcmModel, cat: RegionEmbedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everything.variants.networks.ucm.usable_cores", lambda: 3)
    views = [whole(data.chelsea()[:100]), whole(data.chelsea()), whole(data.coffee()[:120, :200])]
    batch = model.encode_batch([*views, views[0]])
    assert batch[3] is batch[0]  # copies fill a batch up, and cost nothing
    for view, found in zip(views, batch[:3], strict=True):
        alone = cat if view is views[1] else model.encode(view)
        assert np.array_equal(found.regions.place, alone.regions.place)
        assert np.array_equal(found.quality, alone.quality)
        assert torch.equal(found.maps, alone.maps)


def test_other_weights_are_refused() -> None:
    with pytest.raises(WeightsError, match="missing"):
        build({}, "empty.safetensors")


@pytest.mark.parametrize(("name", "backbone"), [("ucm", "none"), ("ucm-lite0", "lite0")])
def test_the_network_is_told_from_its_weights(name: str, backbone: str) -> None:
    path = VARIANTS[name].weights.path()
    assert path.stat().st_size < 12e6
    state = read_state(path)
    assert architecture(state) == backbone
    regions = build(state, str(path)).encode(whole(data.chelsea())).regions
    assert len(regions) > 10


def test_with_the_encoder_the_cat_is_one_object() -> None:
    path = VARIANTS["ucm-lite0"].weights.path()
    found = build(read_state(path), str(path)).encode(whole(data.chelsea()))
    best = np.argsort(-found.quality)[:3]
    masks = [found.regions.mask(int(node)) for node in best]
    # An eye, the nose and the forehead, and not all of the image.
    cats = [m for m in masks if m[150, 353] and m[250, 275] and m[60, 280] and m.mean() < 0.85]
    assert cats
