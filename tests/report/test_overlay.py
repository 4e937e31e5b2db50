"""Overlays: what is drawn where."""

import tracemalloc
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab

from everything.core import rle
from everything.errors import ImageError, StoreError
from everything.io.results.original_image import original_image
from everything.io.results.reader import Results
from everything.io.results.writer import folder_at
from everything.io.storage.locations import Url
from everything.masks.drawing import overlay, palette
from everything.report.build import write_report
from everything.report.overlay import write_overlays
from tests.cli.test_main import everything
from tests.labelled import disc, records, write_labels
from tests.photos import photo

GREY = np.full((60, 80, 3), 90, np.uint8)
ONE = [disc((30, 40), (9, 9), 5)]


def test_no_mask_leaves_the_photo_as_it_is():
    assert (overlay(GREY, []) == GREY).all()


def test_only_masks_are_drawn_on():
    mask = disc((60, 80), (30, 30), 12)
    drawn = overlay(GREY, records([mask]))
    assert (drawn[~mask] == GREY[~mask]).all()
    assert (drawn[mask] != GREY[mask]).any(1).all()


def test_a_small_mask_lies_on_a_large_one_whatever_their_order():
    small, large = disc((60, 80), (40, 30), 6), disc((60, 80), (40, 30), 25)
    one, two = records([small, large])
    drawn = overlay(GREY, [one, two])
    assert (drawn == overlay(GREY, [two, one])).all()
    alone = overlay(GREY, [one])
    assert (drawn[small] == alone[small]).all()


def test_a_mask_keeps_its_colour_when_others_are_left_out():
    masks = [disc((60, 80), (x, 30), 8) for x in (12, 40, 68)]
    rows = records(masks)
    assert (overlay(GREY, rows)[masks[2]] == overlay(GREY, rows[2:])[masks[2]]).all()


def test_the_contour_is_inside_the_mask_and_stands_out():
    mask = disc((60, 80), (40, 30), 20)
    far = np.abs(overlay(GREY, records([mask])).astype(int) - palette()[0]).sum(2)
    leftmost = 40 - 20
    assert far[30, leftmost] < far[30, leftmost + 1] / 5
    assert far[30, leftmost - 1] == np.abs(GREY[0, 0].astype(int) - palette()[0]).sum()


def test_the_border_of_the_photo_is_no_contour():
    everything = np.ones((60, 80), bool)
    drawn = overlay(GREY, records([everything]))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize("at", [(0, 0), (79, 59), (0, 59)])
def test_one_pixel_at_a_corner(at: tuple[int, int]):
    mask = np.zeros((60, 80), bool)
    mask[at[1], at[0]] = True
    drawn = overlay(GREY, records([mask]))
    assert ((drawn != GREY).any(2) == mask).all()


def test_an_empty_mask_draws_nothing():
    assert (overlay(GREY, records([np.zeros((60, 80), bool)])) == GREY).all()


def test_a_smaller_photo_shows_the_same_masks():
    mask = disc((600, 800), (400, 300), 200)
    drawn = overlay(GREY, records([mask]))
    share = (drawn != GREY).any(2).mean()
    assert share == pytest.approx(mask.mean(), rel=0.02)


def test_a_mask_of_a_huge_photo_is_drawn_without_its_pixels():
    size = (30_000, 40_000)
    code = rle.encode_outline(framed(size), size)
    tracemalloc.start()
    drawn = overlay(GREY, [record(code, 0)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # its box has 600 million pixels
    changed = (drawn != GREY).any(2)
    assert changed[:, 20:60].all()
    assert not changed[:, :19].any()
    assert not changed[:, 61:].any()


def framed(size: tuple[int, int]) -> rle.Outline:
    """Of all columns from a quarter of the width to three quarters."""
    columns = np.arange(size[1] // 4, size[1] * 3 // 4)
    nothing = np.zeros(0, np.int64)
    return rle.Outline(nothing, nothing, columns, columns, size[0])


def record(code: rle.Rle, number: int) -> dict:
    return {"id": number, "segmentation": code, "area": int(rle.areas([code]).item())}


def test_large_tiffs_are_read_by_regions(tmp_path: Path):
    pixels = np.asarray(Image.fromarray(photo("chelsea")).resize((1300, 900)))
    Image.fromarray(pixels).save(tmp_path / "x.tif")
    write_labels(tmp_path / "out", tmp_path, {"x.tif": [disc((900, 1300), (400, 300), 90)]})
    results = Results(tmp_path / "out")
    result = results.read("x.tif")
    assert (original_image(results, "x.tif", result, 400) == pixels).all()
    small = original_image(results, "x.tif", result, 100)
    assert small.shape == (150, 217, 3)
    expected = np.asarray(Image.fromarray(pixels).reduce(6))
    assert np.abs(small.astype(int) - expected).max() <= 1
    Image.fromarray(pixels[:-1]).save(tmp_path / "x.tif")
    with pytest.raises(ImageError, match="when it was labelled"):
        original_image(results, "x.tif", result, 100)


def test_neighbours_in_the_palette_are_told_apart():
    lab = rgb2lab(palette(256)[None] / 255.0)[0]
    for apart in (1, 2):
        assert np.linalg.norm(lab[apart:] - lab[:-apart], axis=1).min() > 25


def test_overlays_of_a_folder_mirror_it(tmp_path: Path):
    names = {"a/same.png": [disc((30, 40), (20, 15), 8)], "b/same.png": [disc((30, 40), (9, 9), 5)]}
    labels = write_labels(tmp_path / "out", tmp_path / "photos", names)
    files = write_overlays(labels)
    printable = [file.relative_to(labels / "overlays").as_posix() for file in files]
    assert printable == ["a/same.png.png", "b/same.png.png"]
    first = np.array(Image.open(files[0]))
    assert ((first != 90).any(2) == names["a/same.png"][0]).all()


def test_an_image_that_has_changed_costs_only_its_own_overlay(tmp_path: Path):
    masks = [disc((30, 40), (9, 9), 5)]
    names = ("a.png", "b.png", "c.png")
    labels = write_labels(tmp_path / "out", tmp_path / "p", dict.fromkeys(names, masks))
    Image.new("RGB", (10, 10)).save(tmp_path / "p" / "a.png")
    (tmp_path / "p" / "c.png").unlink()
    skipped: list[str] = []
    files = write_overlays(labels, on_skip=skipped.append)
    assert [file.name for file in files] == ["b.png.png"]
    assert "10 x 10 px, but was 40 x 30 px when it was labelled" in skipped[0]
    assert "not found" in skipped[1]
    (labels / "annotations/a.png.json").write_text("{}")
    write_overlays(labels, on_skip=skipped.append)
    assert "not an annotation file" in skipped[2]
    (tmp_path / "p" / "b.png").unlink()
    with pytest.raises(ImageError, match="not found"):
        write_overlays(labels)


def test_overlays_replace_their_own_files_only(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    masks = [disc((30, 40), (9, 9), 5)]
    labels = write_labels(
        tmp_path / "out", tmp_path / "p", dict.fromkeys(["a.png", "b.png"], masks)
    )
    write_overlays(labels)
    (labels / "annotations/a.png.json").unlink()
    (labels / "overlays/mine.png").write_bytes(b"mine")
    write_overlays(labels)
    found = {path.name for path in (labels / "overlays").iterdir()}
    assert found == {".everything.jsonl", "b.png.png", "mine.png"}
    assert "1 files that this command did not write were kept, such as mine.png" in caplog.text
    # Nothing to draw: those of before stay.
    (tmp_path / "p/b.png").unlink()
    with pytest.raises(ImageError):
        write_overlays(labels)
    assert {path.name for path in (labels / "overlays").iterdir()} == found


@pytest.mark.parametrize("kind", ["files", "link", "report"])
def test_overlays_are_not_written_into_a_folder_of_others(tmp_path: Path, kind: str):
    labels = write_labels(tmp_path / "out", tmp_path / "p", {"a.png": ONE})
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    if kind == "files":
        (labels / "overlays").mkdir()
        (labels / "overlays/a.png.png").write_bytes(b"mine")
    elif kind == "link":
        (labels / "overlays").symlink_to(theirs)
    else:
        write_report(labels, labels / "overlays")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(StoreError, match=r"not empty and not overlays|a link"):
        write_overlays(labels)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_overlays_of_a_bucket_are_beside_the_page(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    labels = write_labels(tmp_path / "out", tmp_path / "p", {"a.png": ONE})
    bucket = f"memory://{uuid4().hex}"
    for file in (labels / "annotations/a.png.json", labels / "recipe.yaml"):
        folder_at(Url(bucket)).write(file.relative_to(labels).as_posix(), [file.read_bytes()])
    for _ in range(2):
        everything("report", bucket, "--photos", tmp_path / "p", "--overlays", "-o", tmp_path / "r")
    assert (tmp_path / "r/overlays-0/a.png.png").is_file()
    assert "did not write" not in caplog.text
