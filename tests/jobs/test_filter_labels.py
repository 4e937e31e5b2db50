"""Thresholds and levels after the fact."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from everything.cli.main import app
from everything.errors import ConfigError, InputError, StoreError
from everything.io.results.mask_filter import MaskFilter
from everything.io.results.reader import Results
from everything.jobs.filter_labels import Filtered, filter_labels
from tests.labelled import disc, write_labels

SIZE = (60, 80)
WHOLE, PART, AWAY = disc(SIZE, (25, 30), 20), disc(SIZE, (25, 30), 7), disc(SIZE, (65, 30), 9)
RUNNER = CliRunner()


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    masks = {"a/x.png": [PART, WHOLE, AWAY], "y.png": [AWAY], "none.png": [PART]}
    return write_labels(tmp_path / "labels", tmp_path / "photos", masks, scores=[0.9, 0.8, 0.4])


def test_what_cannot_be_read_is_kept_counted_and_the_rest_filtered(
    labels: Path, tmp_path: Path
) -> None:
    broken = labels / "annotations/y.png.json"
    broken.write_text("{}")
    done = filter_labels(labels, tmp_path / "out", MaskFilter(pred_iou_thresh=0.85))
    assert done == Filtered(photos=2, masks=2, filtered_out=2, unreadable=1)
    assert broken.read_text() == "{}"
    after = Results(tmp_path / "out")
    assert list(after.files) == ["a/x.png", "none.png"]
    assert "not an annotation file" in after.failures["y.png"]
    ended = RUNNER.invoke(app, ["filter", str(labels), "--out", str(tmp_path / "more")])
    assert ended.exit_code == 3
    assert "2 images" in ended.output
    assert "1 left out" in ended.output
    for name in ("a/x.png", "none.png"):
        (labels / f"annotations/{name}.json").write_text("")
    with pytest.raises(InputError, match="not an annotation file"):
        filter_labels(labels, tmp_path / "none", MaskFilter())


def ids(results: Results, key: str) -> list[int]:
    return [one["id"] for one in results.read(key).annotations]


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (MaskFilter(), [0, 1, 2]),
        (MaskFilter(level="whole"), [1, 2]),
        (MaskFilter(level="part"), [0]),
        (MaskFilter(pred_iou_thresh=0.4), [0, 1]),
        (MaskFilter(pred_iou_thresh=0.399), [0, 1, 2]),
        (MaskFilter(stability_score_thresh=0.94), [0, 1]),
        (MaskFilter(min_mask_area=int(AWAY.sum())), [1, 2]),
        (MaskFilter(max_mask_area=int(AWAY.sum())), [0, 2]),
        (MaskFilter(level="whole", max_mask_area=int(AWAY.sum())), [0, 2]),
    ],
)
def test_what_is_kept(labels: Path, keep: MaskFilter, expected: list[int]) -> None:
    result = Results(labels, keep=keep).read("a/x.png")
    assert [one["id"] for one in result.annotations] == expected
    assert result.filtered_out == 3 - len(expected)


def test_the_new_folder_has_the_rest_and_finds_the_images(labels: Path, tmp_path: Path) -> None:
    done = filter_labels(labels, tmp_path / "out", MaskFilter(pred_iou_thresh=0.85))
    assert done == Filtered(photos=3, masks=3, filtered_out=2)
    before, after = Results(labels), Results(tmp_path / "out")
    assert list(after.files) == list(before.files)
    for key in before.files:
        old, new = before.read(key), after.read(key)
        assert new.annotations == old.annotations[:1]
        assert new.timing == old.timing
        source = after.image(key, new.name)
        assert source is not None
        assert source.path == tmp_path / "photos" / key
    assert after.read("y.png").recipe["sampler"]["filtered"]["pred_iou_thresh"] == 0.85
    again = filter_labels(labels, tmp_path / "out", MaskFilter(pred_iou_thresh=0.85))
    assert again == done
    with pytest.raises(StoreError, match="another recipe"):
        filter_labels(labels, tmp_path / "out", MaskFilter(level="whole"))
    filter_labels(labels, tmp_path / "out", MaskFilter(level="whole"), overwrite=True)
    assert ids(Results(tmp_path / "out"), "a/x.png") == [1, 2]


def test_parents_that_are_left_out_are_replaced(tmp_path: Path) -> None:
    from everything.masks.segments import Segments
    from tests.labelled import records

    masks = [disc(SIZE, (30, 30), radius) for radius in (28, 20, 10)]
    annotations = Segments.from_sa1b(records(masks, [0.9, 0.5, 0.8]), SIZE).to_sa1b(parents=True)
    assert [one["parent_id"] for one in annotations] == [None, 0, 1]
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "x.png")
    about = {"image_id": 1, "file_name": "x.png", "height": SIZE[0], "width": SIZE[1]}
    (tmp_path / "x.json").write_text(json.dumps({"image": about, "annotations": annotations}))
    filter_labels(tmp_path, tmp_path / "out", MaskFilter(pred_iou_thresh=0.6))
    kept = Results(tmp_path / "out").read("x.png").annotations
    assert [(one["id"], one["parent_id"]) for one in kept] == [(0, None), (2, 0)]


@pytest.mark.parametrize(
    "settings",
    [
        {"pred_iou_thresh": 1.1},
        {"stability_score_thresh": -1},
        {"min_mask_area": 5, "max_mask_area": 4},
    ],
)
def test_impossible_thresholds_are_refused(settings: dict) -> None:
    with pytest.raises(ConfigError):
        MaskFilter(**settings)


@pytest.mark.parametrize("other", ["as it is", "relative", "dots", "link"])
def test_the_labels_are_not_filtered_in_place(
    labels: Path, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be deleted before they are read."""
    monkeypatch.chdir(labels.parent)
    (labels.parent / "link").symlink_to(labels)
    out = {
        "as it is": labels,
        "relative": Path("labels"),
        "dots": labels / ".." / "labels",
        "link": Path("link"),
    }[other]
    before = sorted(path for path in labels.rglob("*"))
    with pytest.raises(InputError, match="another --out"):
        filter_labels(labels, out, MaskFilter(level="whole"), overwrite=True)
    assert sorted(path for path in labels.rglob("*")) == before


def test_notes_and_failures_are_kept(tmp_path: Path) -> None:
    labels = write_labels(
        tmp_path / "labels", tmp_path / "p", {"x.png": [PART]}, failures={"bad.jpg": "it is empty"}
    )
    file = labels / "annotations" / "x.png.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"notes": ["very dark"]}))
    done = filter_labels(labels, tmp_path / "out", MaskFilter(min_mask_area=5))
    assert (done.photos, done.failed) == (1, 1)
    again = Results(tmp_path / "out")
    assert again.read("x.png").notes == ("very dark",)
    assert again.failures == {"bad.jpg": "it is empty"}
    assert "it is empty" in (tmp_path / "out" / "errors.jsonl").read_text()


def test_the_command_and_the_options_of_others(labels: Path, tmp_path: Path) -> None:
    args = [str(labels), "--level", "whole", "--json"]
    done = RUNNER.invoke(app, ["filter", *args, "--out", str(tmp_path / "out")])
    assert json.loads(done.stdout) == {
        "photos": 3, "masks": 4, "filtered_out": 1, "failed": 0, "unreadable": 0,
        "photos_left_out": 0, "unknown_images": 0, "unknown_masks": 0,
    }  # fmt: skip
    report = RUNNER.invoke(app, ["report", *args, "--overlays", "--out", str(tmp_path / "page")])
    assert json.loads(report.stdout)["folders"][0]["masks"] == 4
    drawn = np.asarray(Image.open(labels / "overlays" / "a" / "x.png.png"))
    assert len(np.unique(drawn[PART], axis=0)) == 1, "the part is not drawn"
    scored = RUNNER.invoke(app, ["evaluate", *args, "--truth", str(labels), "--no-boundaries"])
    assert json.loads(scored.stdout)["masks"] == 4
    refused = RUNNER.invoke(
        app, ["evaluate", "--prompts", "--truth", str(labels), "--level", "part"]
    )
    assert refused.exit_code == 2


def test_a_review_is_obeyed_by_every_command(labels: Path, tmp_path: Path) -> None:
    from everything.io.results.review import FORMAT, fingerprint

    rejected, tagged = Results(labels).read("a/x.png").annotations[1:]
    masks = [
        {"id": one["id"], "crc32": fingerprint(one["segmentation"]), "area": one["area"]} | more
        for one, more in ((rejected, {"verdict": "rejected"}), (tagged, {"tag": "ball"}))
    ]
    size = {"width": SIZE[1], "height": SIZE[0]}
    images = [
        {"file_name": "a/x.png", **size, "masks": masks},
        {"file_name": "y.png", **size, "verdict": "rejected"},
        {"file_name": "gone.png", **size, "verdict": "rejected"},
    ]
    review = tmp_path / "review.json"
    review.write_text(json.dumps({"format": FORMAT, "version": 1, "images": images}))

    def run(*words: str | Path) -> dict:
        args = [*map(str, words), "--reviewed", str(review), "--json"]
        done = RUNNER.invoke(app, args)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    done = run("filter", labels, "--out", tmp_path / "out")
    assert (done["photos"], done["masks"], done["filtered_out"]) == (2, 3, 1)
    assert (done["photos_left_out"], done["unknown_images"], done["unknown_masks"]) == (1, 1, 0)
    filtered = Results(tmp_path / "out")
    assert ids(filtered, "a/x.png") == [0, 2]
    assert filtered.read("a/x.png").annotations[1]["category"] == "ball"
    assert [one.name for one in filtered.categories] == ["ball"]
    assert filtered.read("a/x.png").recipe["sampler"]["filtered"]["reviewed"]["name"] == str(review)
    exported = run("export", labels, "--to", "coco", "--out", tmp_path / "coco")
    assert (exported["photos_left_out"], exported["masks_left_out"]) == (1, 1)
    coco = json.loads((tmp_path / "coco/annotations/instances_default.json").read_text())
    names = {one["id"]: one["name"] for one in coco["categories"]}
    assert [names[one["category_id"]] for one in coco["annotations"]] == [
        "object",
        "ball",
        "object",
    ]
    (page,) = run("report", labels, "--out", tmp_path / "page")["folders"]
    assert (page["masks"], page["masks_left_out"], page["photos_left_out"]) == (3, 1, 1)
    scored = run("evaluate", labels, "--truth", labels, "--no-boundaries")
    assert (scored["photos"], scored["masks"], scored["reviewed_out"]) == (2, 3, 1)
    refused = RUNNER.invoke(app, ["filter", str(labels), "-o", "x", "--accepted-only"])
    assert refused.exit_code == 2
