import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import supervision
import torch
from PIL import Image
from pycocotools import mask as coco
from pycocotools.coco import COCO

from everything.core.prompts import Prompts
from everything.errors import ConfigError, EverythingError
from everything.io.results.reader import Results
from everything.masks.segments import Segments
from tests.pipeline.test_nms import nested, segments

SA1B = {
    "id",
    "segmentation",
    "bbox",
    "area",
    "predicted_iou",
    "stability_score",
    "crop_box",
    "point_coords",
}


def test_records_have_exactly_sa1bs_fields_and_survive_json():
    records = json.loads(json.dumps(segments(nested(), [0.9, 0.8]).to_sa1b()))
    assert [set(r) for r in records] == [SA1B, SA1B]
    assert records[1]["bbox"] == [5, 5, 4, 4]
    assert records[1]["area"] == 25
    assert records[1]["point_coords"] == [[1, 1]]
    assert (coco.decode(records[1]["segmentation"]) == nested()[1]).all()


def test_a_box_prompt_is_kept_beside_its_centre():
    found = segments(nested()[:1], [0.9])
    boxed = Segments(
        found.rles,
        found.boxes,
        found.scores,
        found.stability,
        found.levels,
        Prompts.boxes(torch.tensor([[2.0, 4.0, 8.0, 6.0]])),
        found.crops,
    )
    record = boxed.to_sa1b()[0]
    assert record["prompt_box"] == [2, 4, 8, 6]
    assert record["point_coords"] == [[5, 5]]


def test_label_map_shows_parts_on_their_wholes_without_overlap():
    whole, part = nested()
    for order in ([whole, part], [part, whole]):
        labels = segments(order, [0.9, 0.8]).label_map()
        assert labels.dtype == np.uint16
        assert (labels > 0).all()
        assert len(np.unique(labels[part])) == 1
        assert (labels == labels[7, 7]).sum() == part.sum()


def test_a_full_label_map_gives_every_pixel_the_nearest_mask():
    masks = np.zeros((3, 20, 30), bool)
    masks[0, 2:6, 2:6] = masks[1, 12:18, 20:28] = masks[2, 13:15, 22:24] = True
    found = segments(list(masks), [0.9, 0.8, 0.7])
    plain, full = found.label_map(), found.label_map(full=True)
    assert (full > 0).all()
    assert (full[plain > 0] == plain[plain > 0]).all()
    assert (full[0, 0], full[19, 29], full[14, 23]) == (1, 2, 3)
    assert not Segments.empty((3, 4)).label_map(full=True).any()


def test_links_to_parents_are_an_extra_key():
    whole, part = nested()
    records = segments([part, whole], [0.9, 0.8]).to_sa1b(parents=True)
    assert [set(r) for r in records] == [SA1B | {"parent_id"}] * 2
    assert [r["parent_id"] for r in records] == [1, None]


def test_nothing():
    empty = Segments.empty((3, 4))
    assert empty.to_sa1b() == []
    assert not empty.label_map().any()
    assert empty.masks.shape == (0, 3, 4)
    assert len(Segments.cat([empty, empty])) == 0


def test_rows_must_agree():
    found = segments(nested(), [0.9, 0.8])
    with pytest.raises(ValueError, match="differ"):
        Segments(
            found.rles[:1],
            found.boxes,
            found.scores,
            found.stability,
            found.levels,
            found.prompts,
            found.crops,
        )


def found() -> Segments:
    """A whole of 20 x 20 px and a part of it, in an image of 30 x 40 px."""
    masks = np.zeros((2, 30, 40), bool)
    masks[0, 5:25, 5:25] = masks[1, 8:13, 8:13] = True
    masks[1, 9, 9] = False
    image = np.full((30, 40, 3), 128, np.uint8)
    return replace(segments(list(masks), [0.9, 0.6]), image=image, name="square.png")


def test_one_mask_several_and_all():
    both = found()
    assert [one.area for one in both] == both.areas.tolist() == [400, 24]
    one = both[-1]
    assert (one.mask == both.masks[1]).all()
    assert one.mask.shape == both.size == (30, 40)
    assert (one.area, round(one.score, 3), one.rle) == (24, 0.6, both.rles[1])
    assert one.box == tuple(both.boxes[1].tolist())
    assert one.to_sa1b()["area"] == 24
    assert "24 px, score 0.60" in repr(one)
    for rows in ([1], np.array([1]), np.array([False, True]), torch.tensor([1]), slice(1, 2)):
        assert both[rows].rles == both.rles[1:]
        assert both[rows].name == "square.png"
    assert len(both[[]]) == 0
    assert both[[]].masks.shape == (0, 30, 40)
    for row in (2, -3):
        with pytest.raises(IndexError):
            both[row]


def test_a_notebook_shows_a_picture_and_a_shell_one_line():
    assert repr(found()) == "Segments(2 masks, square.png, 40 x 30 px)"
    html = found()._repr_html_()
    assert html.startswith('<figure><img src="data:image/jpeg;base64,')
    assert "square.png" in html
    assert replace(found(), image=None)._repr_html_() is None
    large = replace(found(), image=np.zeros((3000, 4000, 3), np.uint8))
    assert len(large._repr_html_()) < 100_000


def test_levels_and_filters():
    both = found()
    assert both.level("whole").rles == both.rles[:1]
    assert both.level("part").rles == both.rles[1:]
    assert both.level("all") is both
    assert both.filter().rles == both.rles
    assert both.filter(pred_iou_thresh=0.6001).rles == both.rles[:1]
    assert both.filter(max_area=399).rles == both.rles[1:]
    assert both.filter(min_area=25).rles == both.rles[:1]
    assert len(both.filter(stability_score_thresh=1.01)) == 0
    with pytest.raises(ConfigError, match="level 'wholes': choose one of all, whole, part"):
        both.level("wholes")


def test_a_plot_is_the_image_with_its_masks():
    picture = np.asarray(found().plot())
    inside = found().masks.any(0)
    assert (picture[~inside] == 128).all()
    assert (picture[inside] != 128).any(1).all()
    with pytest.raises(EverythingError, match="no image"):
        replace(found(), image=None).plot()


def test_saving(tmp_path: Path):
    found().save(tmp_path / "drawn.png")
    with Image.open(tmp_path / "drawn.png") as picture:
        assert (np.asarray(picture) == np.asarray(found().plot())).all()
    found().save(tmp_path / "square.json")
    content = json.loads((tmp_path / "square.json").read_text())
    assert content["image"] == {"file_name": "square.png", "height": 30, "width": 40}
    result = Results(tmp_path).read("square.json".removesuffix(".json"))
    assert result.annotations == content["annotations"] == found().to_sa1b()
    with pytest.raises(EverythingError, match=r"unknown suffix: use one of \.json"):
        found().save(tmp_path / "square.bmp")


def test_records_come_back_as_they_were():
    both = found()
    again = Segments.from_sa1b(both.to_sa1b(), both.size, both.image, both.name)
    assert again.to_sa1b() == both.to_sa1b()
    assert repr(again) == repr(both)
    bare = [{"segmentation": rle, "area": 1} for rle in both.rles]
    assert Segments.from_sa1b(bare, both.size).boxes.tolist() == [[5, 5, 24, 24], [8, 8, 12, 12]]
    assert len(Segments.from_sa1b([], (3, 4)).label_map()) == 3


def test_coco_annotations_pass_cocos_own_reader(tmp_path: Path):
    both = found()
    annotations = both.to_coco(image_id=7, first_id=3)
    file = tmp_path / "coco.json"
    image = {"id": 7, "file_name": "square.png", "height": 30, "width": 40}
    categories = [{"id": 1, "name": "object"}]
    document = {"images": [image], "annotations": annotations, "categories": categories}
    file.write_text(json.dumps(document))
    read = COCO(str(file))
    assert read.getAnnIds(imgIds=[7]) == [3, 4]
    assert (read.annToMask(read.anns[3]) == both.masks[0]).all()
    assert (read.annToMask(read.anns[4]) == both.masks[1]).all()
    assert annotations[0]["bbox"] == [5, 5, 20, 20]


def test_classes_go_where_the_masks_go():
    both = replace(found(), categories=["a dog", ""])
    assert [one.category for one in both] == ["a dog", ""]
    assert both[[1, 0]].categories == ["", "a dog"]
    assert Segments.cat([both, found()]).categories == ["a dog", "", "", ""]
    records = both.to_sa1b()
    assert [set(r) for r in records] == [SA1B | {"category"}, SA1B]
    assert Segments.from_sa1b(records, both.size).categories == ["a dog", ""]
    assert [row["category_id"] for row in both.to_coco()] == [1, 2]
    assert [row["category_id"] for row in both.to_coco(classes=["cat", "a dog"])] == [2, 3]
    assert [row["category_id"] for row in found().to_coco()] == [1, 1]
    detections = both.to_supervision()
    assert detections.data["class_name"].tolist() == ["a dog", "object"]
    assert detections.class_id.tolist() == [0, 1]
    assert found().to_supervision().class_id.tolist() == [0, 0]
    assert both.to_supervision(["object", "a dog"]).class_id.tolist() == [1, 0]


def test_polygons_have_holes_and_lie_in_the_image():
    (square,), (ring,) = found().to_polygons()
    assert sorted(square.shell.tolist()) == [[5, 5], [5, 25], [25, 5], [25, 25]]
    assert [len(square.holes), len(ring.holes)] == [0, 1]
    assert sorted(ring.holes[0].tolist()) == [[9, 9], [9, 10], [10, 9], [10, 10]]
    (one,) = found()[1].to_polygons()
    assert (one.shell == ring.shell).all()


def test_a_table_for_pandas():
    frame = found().to_pandas()
    assert frame["area"].tolist() == [400, 24]
    assert set(frame.columns) == SA1B
    assert len(Segments.empty((3, 4)).to_pandas()) == 0


def test_supervision_draws_them():
    detections = found().to_supervision()
    assert (detections.mask == found().masks).all()
    scene = np.full((30, 40, 3), 128, np.uint8)
    drawn = supervision.MaskAnnotator().annotate(scene.copy(), detections)
    assert (drawn != scene).any()
    assert len(Segments.empty((3, 4)).to_supervision()) == 0


def test_fiftyone_gets_masks_in_boxes():
    fiftyone = pytest.importorskip("fiftyone", reason="fiftyone needs an environment of its own")
    detections = found().to_fiftyone("thing").detections
    assert all(isinstance(one, fiftyone.Detection) for one in detections)
    assert detections[1].bounding_box == pytest.approx([8 / 40, 8 / 30, 5 / 40, 5 / 30])
    assert (detections[1].mask == found().masks[1, 8:13, 8:13]).all()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(EverythingError, match="pip install supervision"):
        found().to_supervision()
