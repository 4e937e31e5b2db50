"""Prompts whose answers are known."""

import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from scipy import ndimage

from everything.core.geometry import Frame, Size, View
from everything.core.prompts import Prompts
from everything.decoding.reference import PlainCandidates
from everything.errors import InputError
from everything.evaluation.prompt_scores import box, centre, evaluate_prompts
from everything.pipeline.pipeline import Pipeline
from everything.samplers.grid import Grid
from tests.fakes import RECIPE
from tests.labelled import disc, records

SIZE = (60, 80)


@dataclass
class OneColour:
    """Answers with what has the colour of the prompt's first point or of its box's middle: first
    all of the photo with that, then the connected part, on a canvas of twice the size."""

    scores: tuple[float, float, float] = (0.5, 0.9, 0.1)
    asked: list[tuple[int, int, bool]] = field(default_factory=list)

    def frame(self, view: Size) -> Frame:
        height, width = view
        return Frame(view, (2 * height, 2 * width), (0, 0, 2 * width, 2 * height))

    def encode(self, view: View) -> View:
        return view

    def propose(self, embedding: View, prompts: Prompts, multimask_output: bool) -> PlainCandidates:
        self.asked.append((*prompts.labels.shape, multimask_output))
        pixels = embedding.pixels.astype(int).sum(2)
        answers = []
        for row in range(len(prompts)):
            corners = prompts.box(row)
            at = prompts.points[row, 0] if corners is None else prompts.anchors()[row]
            x, y = (at / 2).long().tolist()
            same = pixels == pixels[y, x]
            parts, _ = ndimage.label(same)
            answers += [same, parts == parts[y, x], np.zeros_like(same)]
        per = 3 if multimask_output else 1
        kept = answers if multimask_output else answers[1::3]
        logits = torch.from_numpy(np.stack(kept)).float().repeat_interleave(2, 1)
        scores = torch.tensor(self.scores[:per]).repeat(len(prompts))
        prompt = torch.arange(len(prompts)).repeat_interleave(per)
        number = torch.arange(len(kept))
        return PlainCandidates(
            scores, prompt, number % per, number, logits.repeat_interleave(2, 2) - 0.5
        )


def truth(folder: Path, labels: np.ndarray) -> Path:
    """Photos whose colours are those of the label map (H, W)."""
    for name in ("photos", "labels"):
        (folder / name).mkdir(parents=True)
    Image.fromarray(np.stack([labels * 50] * 3, -1).astype(np.uint8)).save(folder / "photos/x.png")
    np.save(folder / "labels" / "x.npy", labels)
    return folder


def two_discs() -> np.ndarray:
    """The same colour twice: one segment, and a larger one, on unmarked ground."""
    labels = np.zeros(SIZE, np.int16)
    labels[disc(SIZE, (20, 30), 8)] = 1
    labels[disc(SIZE, (58, 30), 16)] = 2
    return labels


def test_a_model_that_knows_scores_one(tmp_path: Path):
    model = OneColour()
    scores = evaluate_prompts(Pipeline(model, Grid(), RECIPE), truth(tmp_path, two_discs()))
    assert (scores.photos, scores.segments) == (1, 2)
    for kind, score in scores.kinds.items():
        assert asdict(score) == dict.fromkeys(asdict(score), 1.0), kind
    assert model.asked == [(2, 1, True), (2, 1, True), (2, 3, False), (2, 2, False)]


def test_top_is_what_the_model_prefers_and_best_what_it_has(tmp_path: Path):
    labels = two_discs()
    path = truth(tmp_path, labels)
    both = np.where(labels > 0, 100, 0)
    Image.fromarray(np.stack([both] * 3, -1).astype(np.uint8)).save(path / "photos" / "x.png")
    model = OneColour(scores=(0.9, 0.5, 0.1))
    scores = evaluate_prompts(Pipeline(model, Grid(), RECIPE), path).kinds["centre"]
    small, large = (int((labels == n).sum()) for n in (1, 2))
    share = small / (small + large)
    assert scores.best == scores.best_by_area == 1.0
    assert scores.top == pytest.approx(0.5)
    assert scores.top_by_area == pytest.approx(share**2 + (1 - share) ** 2)


def test_seeds_repeat_and_specks_do_not_count(tmp_path: Path):
    path = truth(tmp_path, two_discs())
    pipeline = Pipeline(OneColour(), Grid(), RECIPE)
    once, again = (evaluate_prompts(pipeline, path, seed=3) for _ in range(2))
    assert once == again
    assert evaluate_prompts(pipeline, path, min_area=300).segments == 1
    with pytest.raises(InputError, match="no segments of 9999 px"):
        evaluate_prompts(pipeline, path, min_area=9999)


def test_three_points_of_a_segment_smaller_than_that(tmp_path: Path):
    labels = np.zeros(SIZE, np.int16)
    labels[59, 78:] = 1
    pipeline = Pipeline(OneColour(), Grid(), RECIPE)
    scores = evaluate_prompts(pipeline, truth(tmp_path, labels), min_area=1)
    assert scores.kinds["random-3"].top == 1.0


@pytest.mark.parametrize(
    ("mask", "xy"),
    [
        (disc(SIZE, (20, 30), 8), (20.5, 30.5)),
        (disc(SIZE, (0, 0), 0), (0.5, 0.5)),
        (disc(SIZE, (79, 59), 0), (79.5, 59.5)),
        (np.ones((5, 5), bool), (2.5, 2.5)),
        (np.ones((1, 1), bool), (0.5, 0.5)),
    ],
)
def test_the_centre_is_farthest_from_what_is_outside(mask: np.ndarray, xy: tuple[float, float]):
    assert centre(mask) == xy


def test_the_centre_of_a_ring_is_on_the_ring():
    ring = disc(SIZE, (40, 30), 20) & ~disc(SIZE, (40, 30), 10)
    x, y = centre(ring)
    assert ring[int(y), int(x)]


def test_a_box_holds_its_last_pixels():
    mask = np.zeros(SIZE, bool)
    mask[2:5, 7] = True
    assert box(mask) == (7.0, 2.0, 8.0, 5.0)


def test_a_table_for_the_terminal(tmp_path: Path):
    scores = evaluate_prompts(Pipeline(OneColour(), Grid(), RECIPE), truth(tmp_path, two_discs()))
    console = Console(record=True, width=90, file=io.StringIO())
    console.print(scores.table())
    text = console.export_text()
    assert "random-3" in text
    assert "2 segments in 1 images" in text
    assert scores.to_json()["kinds"]["box"]["top"] == 1.0


def overlapping(folder: Path) -> tuple[Path, np.ndarray]:
    """A disc of another colour in a larger one, each marked whole: masks that overlap."""
    outer, inner = disc(SIZE, (40, 30), 25), disc(SIZE, (45, 30), 10)
    pixels = np.stack([outer * 100 + inner * 50] * 3, -1).astype(np.uint8)
    folder.mkdir()
    Image.fromarray(pixels).save(folder / "x.png")
    rows = records([outer, inner, np.ones(SIZE, bool)])
    annotations = [
        {"id": row["id"], "image_id": 7, "category_id": 1, "iscrowd": int(row["id"] == 2)}
        | {name: row[name] for name in ("segmentation", "area", "bbox")}
        for row in rows
    ]
    image = {"id": 7, "height": SIZE[0], "width": SIZE[1], "file_name": "x.png"}
    content = {"images": [image], "annotations": annotations, "categories": []}
    (folder / "coco.json").write_text(json.dumps(content))
    sa1b = {"image": {"file_name": "x.png", "height": SIZE[0], "width": SIZE[1]}}
    (folder / "sa1b").mkdir()
    Image.fromarray(pixels).save(folder / "sa1b" / "x.png")
    (folder / "sa1b" / "x.json").write_text(json.dumps(sa1b | {"annotations": rows[:2]}))
    return folder, np.stack([outer, inner])


def test_masks_that_overlap_are_wanted_whole(tmp_path: Path):
    folder, masks = overlapping(tmp_path / "t")
    pipeline = Pipeline(OneColour(), Grid(), RECIPE)
    for truth in (folder / "coco.json", folder / "sa1b"):
        scores = evaluate_prompts(pipeline, truth)
        assert (scores.photos, scores.segments) == (1, 2)
        # The outer disc's deepest point is in the inner one, so that the answer is the inner one.
        assert scores.kinds["centre"].best == pytest.approx(
            (1 + masks[1].sum() / masks[0].sum()) / 2
        )


def test_photos_elsewhere_and_photos_that_are_not_there(tmp_path: Path):
    folder, _ = overlapping(tmp_path / "t")
    (folder / "x.png").rename(tmp_path / "x.png")
    pipeline = Pipeline(OneColour(), Grid(), RECIPE)
    (tmp_path / "deep").mkdir()
    truth = (folder / "coco.json").rename(tmp_path / "deep" / "coco.json")
    assert evaluate_prompts(pipeline, truth, photos=tmp_path).segments == 2
    with pytest.raises(InputError, match=r"x\.png: no such image near .*: give --photos"):
        evaluate_prompts(pipeline, truth, photos=folder)
    Image.new("RGB", (5, 5)).save(folder / "x.png")
    with pytest.raises(InputError, match="the image has 5 x 5 px, its annotations 80 x 60"):
        evaluate_prompts(pipeline, truth, photos=folder)
