"""Scores of label folders: equal to the evaluator's own, and right on cases that are known."""

import contextlib
import io
import json
import lzma
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console

from everything.errors import InputError
from everything.evaluation.average_recall import AverageRecall
from everything.evaluation.mask_scores import Scores, evaluate
from tests.cli.test_main import everything, printed_json
from tests.labelled import disc, records, write_labels

SIZE = (160, 200)


def scenes(seed: int) -> tuple[list[np.ndarray], list[np.ndarray], list[float]]:
    """Truth of all sizes, and masks that are near it, far from it, and too many."""
    dice = np.random.default_rng(seed)
    truth, masks, scores = [], [], []
    for _ in range(12):
        x, y, r = dice.uniform(20, 180), dice.uniform(20, 140), dice.choice([6, 20, 60])
        truth.append(disc(SIZE, (x, y), r))
        for shift in dice.choice([0.05, 0.2, 0.5, 2.0], 3):
            masks.append(disc(SIZE, (x + shift * r, y), r))
            scores.append(float(dice.choice([0.9, 0.8, dice.random()])))
    return truth, masks, scores


def coco_file(path: Path, truths: dict[str, list[np.ndarray]]) -> Path:
    """A COCO file with polygons, crowds and categories, as COCO's own are."""
    images, annotations = [], []
    for i, (name, masks) in enumerate(truths.items()):
        images.append({"id": 900 - i, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
        for row in records(masks):
            category = 1 + row["id"] % 3
            annotation = {"id": len(annotations) + 1, "image_id": 900 - i, "category_id": category}
            annotation |= {key: row[key] for key in ("segmentation", "area", "bbox")}
            if row["id"] == 3:
                annotation["segmentation"] = [[10, 10, 90.5, 12, 80, 70.25, 20, 66]]
                annotation["area"] = 4000.5
            annotations.append(annotation | {"iscrowd": int(row["id"] == 5)})
    categories = [{"id": i, "name": str(i)} for i in (1, 2, 3)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return path


def by_hand(
    file: Path, labels: dict[str, tuple[list[np.ndarray], list[float]]]
) -> dict[str, float]:
    """AR as somebody would compute it who has pycocotools and never heard of us."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        number = {image["file_name"]: image["id"] for image in truth.dataset["images"]}
        found = [
            {
                "image_id": number[name],
                "category_id": 1,
                "segmentation": row["segmentation"],
                "score": row["predicted_iou"],
            }
            for name, (masks, scores) in labels.items()
            for row in records(masks, scores)
        ]
        evaluator = COCOeval(truth, truth.loadRes(found), "segm")
        evaluator.params.useCats = 0
        evaluator.params.maxDets = [1, 10, 100, 1000]
        evaluator.evaluate()
        evaluator.accumulate()
    recall = evaluator.eval["recall"]
    cells = {str(n): recall[:, 0, 0, i] for i, n in enumerate((1, 10, 100, 1000))}
    cells |= {name: recall[:, 0, i, 3] for i, name in ((1, "small"), (2, "medium"), (3, "large"))}
    return {name: float(cell.mean()) for name, cell in cells.items()}


def test_average_recall_is_the_evaluators_to_the_digit(tmp_path: Path):
    data = {f"{i}.jpg": scenes(i) for i in range(4)}
    truth = coco_file(tmp_path / "truth.json", {name: d[0] for name, d in data.items()})
    labels = tmp_path / "labels"
    for name, (_, masks, scores) in data.items():
        write_labels(labels, tmp_path / "p", {name: masks}, scores=scores)
    ours = evaluate(labels, truth)
    theirs = by_hand(truth, {name: (d[1], d[2]) for name, d in data.items()})
    assert ours.ar == theirs
    assert 0 < ours.ar["1"] < ours.ar["10"] < ours.ar["1000"] < 1
    assert (ours.photos, ours.segments, ours.masks) == (4, 4 * 11, 4 * 36)
    assert ours.boundary is None
    assert all(ours.shared[n] >= ours.ar[n] for n in ours.shared)


def test_photos_in_groups_add_up_to_the_same_digits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    data = {f"{i}.jpg": scenes(i) for i in range(4)}
    nothing = [np.zeros(SIZE, bool)]
    data["no-truth.jpg"], data["no-masks.jpg"] = ([], *scenes(5)[1:]), (scenes(6)[0], nothing, [1])
    truth = coco_file(tmp_path / "truth.json", {name: d[0] for name, d in data.items()})
    for name, (_, masks, scores) in data.items():
        write_labels(tmp_path / "labels", tmp_path / "p", {name: masks}, scores=scores)
    whole = evaluate(tmp_path / "labels", truth)
    assert whole.ar == by_hand(truth, {name: (d[1], d[2]) for name, d in data.items()})
    monkeypatch.setattr(AverageRecall, "__init__", partialmethod(AverageRecall.__init__, 60))
    done: list[tuple[int, int]] = []
    assert evaluate(tmp_path / "labels", truth, progress=lambda *n: done.append(n)) == whole
    assert done == [(n, 6) for n in range(1, 7)]


def test_lvis_names_photos_by_address(tmp_path: Path):
    truth = coco_file(tmp_path / "lvis.json", {"000000397133.jpg": scenes(0)[0]})
    content = json.loads(truth.read_text())
    for image in content["images"]:
        image["coco_url"] = f"http://images.cocodataset.org/val2017/{image.pop('file_name')}"
        image |= {"not_exhaustive_category_ids": [], "neg_category_ids": [2]}
    for annotation in content["annotations"]:
        del annotation["iscrowd"]
    truth.write_text(json.dumps(content))
    for name in ("val2017/000000397133.jpg", "000000397133.jpg"):
        labels = write_labels(tmp_path / name, tmp_path / "p", {name: scenes(0)[1]})
        scores = evaluate(labels, truth)
        assert (scores.photos, scores.segments, scores.unused) == (1, 12, ())
        assert scores.ar["1000"] > 0


def label_map(masks: list[np.ndarray]) -> np.ndarray:
    labels = np.ones(SIZE, np.uint8)
    for i, mask in enumerate(masks):
        labels[mask] = i + 2
    return labels


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Truth as label maps of two annotators, of one photo that is marked all over."""
    truth = tmp_path / "truth"
    (truth / "photos").mkdir(parents=True)
    (truth / "labels").mkdir()
    Image.new("RGB", SIZE[::-1]).save(truth / "photos" / "x.png")
    one = label_map([disc(SIZE, (60, 80), 30)])
    two = label_map([disc(SIZE, (60, 80), 30), disc(SIZE, (150, 80), 30), disc(SIZE, (9, 9), 3)])
    np.save(truth / "labels" / "x.npy", np.stack([one, two]))
    return truth


def test_annotators_are_pooled_and_specks_left_out(maps: Path, tmp_path: Path):
    masks = [disc(SIZE, (60, 80), 30)]
    scores = evaluate(write_labels(tmp_path / "out", tmp_path / "p", {"x.png": masks}), maps)
    # One drew a disc, the other two; both marked the rest; a speck of 29 px is left out.
    assert scores.segments == 5
    assert scores.ar["1000"] == pytest.approx(1 / 5), "one mask is one segment's"
    assert scores.shared["1"] == scores.shared["1000"] == pytest.approx(2 / 5), "or everybody's"
    background = [label_map([masks[0]]) == 1, label_map([masks[0], disc(SIZE, (150, 80), 30)]) == 1]
    assert scores.covering == pytest.approx(2 / 5, abs=0.02)
    assert scores.covering_by_area < scores.covering
    both = evaluate(
        write_labels(tmp_path / "o", tmp_path / "p", {"x.png": masks + background}), maps
    )
    assert both.covering > 0.8
    assert both.covering_by_area > 0.9


def test_boundary_f_of_masks(maps: Path, tmp_path: Path):
    masks = [disc(SIZE, (60, 80), 30), disc(SIZE, (150, 80), 30), disc(SIZE, (100, 30), 20)]
    labels = write_labels(tmp_path / "o", tmp_path / "p", {"x.png": masks}, scores=[0.9, 0.8, 0.1])
    scores = evaluate(labels, maps)
    assert scores.boundary is not None
    assert scores.boundary.f > 0.95
    assert scores.boundary.threshold > 0.1, "the mask that nobody drew has the lowest score"
    assert evaluate(labels, maps, boundaries=False).boundary is None


def test_a_data_pack_and_its_split(tmp_path: Path):
    pack = tmp_path / "pack"
    (pack / "images" / "val").mkdir(parents=True)
    images = []
    for split, name in (("train", "no.png"), ("val", "yes.png")):
        Image.new("RGB", SIZE[::-1]).save(pack / "images" / "val" / name)
        codes = [row["segmentation"]["counts"] for row in records([disc(SIZE, (60, 80), 30)] * 2)]
        about = {"file": f"images/val/{name}", "height": SIZE[0], "width": SIZE[1], "split": split}
        images.append(about | {"annotators": 2, "segments": [[0, codes[0]], [1, codes[1]]]})
    with lzma.open(pack / "annotations.json.xz", "wt") as file:
        json.dump({"images": images}, file)
    masks = [disc(SIZE, (60, 80), 30)] * 2
    labels = write_labels(tmp_path / "out", tmp_path / "p", {"yes.png": masks, "more.png": masks})
    scores = evaluate(labels, pack, "val")
    assert (scores.photos, scores.segments, scores.ar["1000"]) == (1, 2, 1.0)
    assert scores.ar["1"] == 0.5
    assert scores.unused == ("more.png",)
    with pytest.raises(
        InputError, match=r"1 images of the ground truth are not labelled \(images/val/no"
    ):
        evaluate(labels, pack)


def test_any_number_of_workers_gives_the_same_scores(tmp_path: Path):
    pack = tmp_path / "pack"
    (pack / "labels").mkdir(parents=True)
    (pack / "images").mkdir()
    found = {}
    for number in range(5):
        truth = [disc(SIZE, (60 + 9 * number, 80), 30), disc(SIZE, (150, 90), 20 + number)]
        Image.new("RGB", SIZE[::-1]).save(pack / "images" / f"{number}.png")
        np.save(pack / "labels" / f"{number}.npy", label_map(truth) + 1)
        found[f"{number}.png"] = [disc(SIZE, (62, 80), 30), disc(SIZE, (150, 88), 22)]
    labels = write_labels(tmp_path / "labels", pack / "images", found)
    alone, together = (evaluate(labels, pack, workers=count) for count in (1, 2))
    assert alone.to_json() == together.to_json()
    assert alone.boundary is not None
    assert 0.3 < alone.boundary.f < 1


def test_labels_against_other_labels(tmp_path: Path):
    masks = {"a/x.png": [disc(SIZE, (60, 80), 30)], "b/x.png": [disc(SIZE, (90, 80), 9)]}
    one = write_labels(tmp_path / "one", tmp_path / "p", masks)
    two = write_labels(tmp_path / "two", tmp_path / "p", masks)
    scores = evaluate(one, two)
    assert scores.ar["1000"] == scores.covering == scores.covering_by_area == 1.0
    assert np.isnan(scores.ar["large"])
    assert scores.to_json()["ar"]["large"] is None
    assert list(scores.shared.values()) == [1.0] * 4
    json.dumps(scores.to_json(), allow_nan=False)


def test_what_cannot_be_read_is_counted_and_the_rest_scored(tmp_path: Path):
    masks = {name: [disc(SIZE, (50, 60), 20)] for name in ("a.png", "b.png", "c.png")}
    ours = write_labels(tmp_path / "ours", tmp_path / "p", masks)
    truth = write_labels(tmp_path / "truth", tmp_path / "p", masks)
    (ours / "annotations/a.png.json").write_text("{}")
    unscored = ours / "annotations/b.png.json"
    unscored.write_text(unscored.read_text().replace("predicted_iou", "iou"))
    scores = evaluate(ours, truth)
    assert (scores.photos, scores.covering) == (1, 1.0)
    assert "a.png.json: not an annotation file" in scores.unreadable[0]
    assert "b.png.json: masks without predicted_iou" in scores.unreadable[1]
    ended = everything("evaluate", ours, "--truth", truth, code=3)
    assert "annotation files that cannot be used" in ended
    (ours / "annotations/c.png.json").write_text("{}")
    with pytest.raises(InputError, match="not an annotation file"):
        evaluate(ours, truth)


def test_a_stem_that_fits_two_photos_is_refused(tmp_path: Path):
    mask = [disc(SIZE, (60, 80), 30)]
    labels = write_labels(tmp_path / "one", tmp_path / "p", {"a/x.png": mask, "b/x.png": mask})
    truth = write_labels(tmp_path / "two", tmp_path / "p", {"x.png": mask})
    with pytest.raises(InputError, match=r"fits several labelled images \(a/x.png, b/x.png\)"):
        evaluate(labels, truth)


def test_another_size_is_refused(tmp_path: Path):
    labels = write_labels(tmp_path / "one", tmp_path / "p", {"x.png": [disc((30, 40), (9, 9), 5)]})
    truth = write_labels(tmp_path / "two", tmp_path / "q", {"x.png": [disc(SIZE, (9, 9), 5)]})
    with pytest.raises(
        InputError, match="40 x 30 px were labelled, the ground truth has 200 x 160"
    ):
        evaluate(labels, truth)


@pytest.mark.parametrize("content", ["{}", "nothing", '{"images": [{}], "annotations": []}'])
def test_a_file_that_is_not_coco(tmp_path: Path, content: str):
    labels = write_labels(tmp_path / "o", tmp_path / "p", {"x.png": [disc(SIZE, (9, 9), 5)]})
    (tmp_path / "truth.json").write_text(content)
    with pytest.raises(InputError, match=r"truth\.json: not a COCO file"):
        evaluate(labels, tmp_path / "truth.json")


def test_no_masks_and_no_truth(tmp_path: Path):
    mask = disc(SIZE, (60, 80), 30)
    nothing = np.zeros(SIZE, bool)
    some = write_labels(tmp_path / "some", tmp_path / "p", {"x.png": [mask]})
    wrong = write_labels(tmp_path / "wrong", tmp_path / "p", {"x.png": [nothing]})
    assert evaluate(wrong, some).ar["1000"] == evaluate(wrong, some).covering == 0
    empty = tmp_path / "empty.json"
    image = {"id": 1, "file_name": "x.png", "height": SIZE[0], "width": SIZE[1]}
    empty.write_text(json.dumps({"images": [image], "annotations": []}))
    scores = evaluate(some, empty)
    assert np.isnan([scores.covering, scores.ar["1000"], scores.shared["1"]]).all()
    json.dumps(scores.to_json(), allow_nan=False)
    (tmp_path / "none.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(InputError, match="the ground truth has no images"):
        evaluate(some, tmp_path / "none.json")


def test_a_table_for_the_terminal(maps: Path, tmp_path: Path):
    labels = write_labels(tmp_path / "o", tmp_path / "p", {"x.png": [disc(SIZE, (60, 80), 30)]})
    scores: Scores = evaluate(labels, maps)
    console = Console(record=True, width=80, file=io.StringIO())
    console.print(scores.table("out"))
    text = console.export_text()
    assert f"{scores.ar['1000']:.3f}" in text
    assert "boundary F (ODS)" in text


def test_the_commands_tables_are_json_too(
    maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # As on a slow machine, where lines of progress come too: on stderr, not among the JSON.
    monkeypatch.setattr("everything.jobs.progress._EVERY", 0.0)
    labels = write_labels(tmp_path / "o", tmp_path / "p", {"x.png": [disc(SIZE, (60, 80), 30)]})
    scored = printed_json("evaluate", labels, "--truth", maps, "--no-boundaries")
    expected = evaluate(labels, maps, boundaries=False).to_json()
    assert scored == json.loads(json.dumps(expected))
    prompts = ("evaluate", "--prompts", "--variant", "ucm", "--truth", maps, "--limit", 1)
    answered = printed_json(*prompts, "--min-area", 2000)
    assert (answered["photos"], answered["segments"]) == (1, 5)
    assert set(answered["kinds"]) == {"centre", "random-1", "random-3", "box"}
    assert "give a results folder, or --prompts" in everything(*prompts, labels, code=2)
