import json

import numpy as np
import pytest
from pycocotools import mask as coco

from everything.core.prompts import Prompts
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
    import torch

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
