"""COCO files as tools write them, with annotations, ids and names that are wrong."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from everything.core import rle
from everything.errors import InputError
from everything.evaluation.mask_scores import evaluate
from everything.io.datasets import json_stream
from everything.io.datasets.annotations import EMPTY
from everything.io.datasets.coco import NO_CLASS, NO_SIZE, CocoReader
from everything.io.datasets.image_masks import images_with_masks
from everything.io.datasets.image_names import ImageFinder, image_name
from everything.io.datasets.json_stream import read_items
from everything.io.datasets.reading_tally import ReadingTally
from everything.io.results.reader import Results
from everything.jobs.import_labels import import_labels
from tests.labelled import write_labels

SIZE = (40, 60)
SQUARE = [2, 2, 12, 2, 12, 12, 2, 12]
OTHER = [30, 20, 40, 20, 40, 30, 30, 30]
WHOLE = np.zeros(SIZE, bool)
WHOLE[2:12, 2:12] = True


def image(number: Any, name: str, **about: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name, "width": SIZE[1], "height": SIZE[0]} | about


def annotation(number: Any, of: Any, segmentation: Any, **about: Any) -> dict[str, Any]:
    row = {"id": number, "image_id": of, "category_id": 1, "segmentation": segmentation}
    return row | {"area": 100, "bbox": [2, 2, 10, 10], "iscrowd": 0} | about


def write(path: Path, annotations: list[Any], images: list[Any] | None = None, **more: Any) -> Path:
    images = [image(1, "x.jpg"), image(2, "y.jpg")] if images is None else images
    tree = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree | more))
    return path


def good() -> list[Any]:
    rows = [(1, 1, [SQUARE]), (2, 1, [OTHER]), (3, 2, [SQUARE])]
    return [annotation(*row) for row in rows]


@pytest.mark.parametrize("side", [None, 0, -1, "", 1e9])
def test_an_image_without_a_size_has_that_of_its_file(tmp_path: Path, side: Any) -> None:
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "x.png")
    images = [image(1, "x.png", width=side, height=side), image(2, "gone.jpg", width=side)]
    done = import_labels([write(tmp_path / "c.json", good(), images)], tmp_path / "o")
    assert (done.photos, done.masks, done.failed) == (1, 2, 1)
    assert done.tally.mended == {NO_SIZE: 1}
    assert Results(tmp_path / "o").read("x.png").size == SIZE


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"a": [', "[ 1, "])
def test_lists_within_lists_do_not_fill_the_memory(tmp_path: Path, opening: str) -> None:
    (tmp_path / "c.json").write_text('{"images": ' + opening * 50_000)
    with pytest.raises(InputError, match="lists within lists without end"):
        import_labels([tmp_path / "c.json"], tmp_path / "o")


def test_brackets_in_run_lengths_are_no_lists(tmp_path: Path) -> None:
    rows = good()
    rows[0]["comment"] = "[O" * 200_000
    done = import_labels([write(tmp_path / "c.json", rows)], tmp_path / "o")
    assert (done.masks, done.failed) == (3, 0)


def labels(home: Path) -> Path:
    return write_labels(home / "l", home / "p", {"x.jpg": [WHOLE], "y.jpg": [WHOLE]})


def imported(file: Path, photos: Path | None = None) -> tuple[dict[str, Any], Results]:
    out = file.with_suffix("") / "out"
    done = import_labels([file], out, photos)
    results = Results(out)
    list(results)  # all of it can be read
    return done.to_json(), results


# Its last length but one is -1.
NEGATIVE = "Z31d06K4M2OO0O2O000O20N10001N101N3L5JQ8"
LEFT_OUT: dict[str, Any] = {
    "a box only": [],
    "null": None,
    "an empty text": "",
    "empty counts": {"size": list(SIZE), "counts": ""},
    "two points": [[5, 5, 9, 9]],
    "a list of run lengths": [{"size": list(SIZE), "counts": [100, 20, 2280]}],
    "another size": {"size": [60, 40], "counts": [100, 20, 2280]},
    "too short by zeros and ones": {"size": list(SIZE), "counts": [100, 20, 30]},
    "too long": {"size": list(SIZE), "counts": [100, 20, 5000]},
    "far out": [[0, 0, 1e9, 0, 1e9, 1e9]],
    "text": [["a", "b", "c", "d", "e", "f"]],
    "an odd number": [[*SQUARE, 4]],
    "a number": 7,
    "shares of the sides": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]],
    "a negative length in a text, too short": {"size": [40, 60], "counts": NEGATIVE},
}
MENDED: dict[str, Any] = {
    "a flat polygon": SQUARE,
    "one polygon as points": [[2, 2], [12, 2], [12, 12], [2, 12]],
    "polygons as points": [[[2, 2], [12, 2], [12, 12], [2, 12]]],
    "a part of two points": [[5, 5, 5, 9], SQUARE],
    "without the last zeros": {"counts": [82, 10, *[30, 10] * 9], "size": list(SIZE)},
    "lengths as floats": {"counts": [82.0, 10.0, *[30, 10] * 9, 1948], "size": [40.0, 60.0]},
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_an_annotation_without_a_usable_mask_costs_only_itself(tmp_path: Path, case: str):
    file = write(tmp_path / "c.json", [*good(), annotation(4, 1, LEFT_OUT[case])])
    done, results = imported(file)
    assert (done["photos"], done["masks"], done["masks_left_out"], done["failed"]) == (2, 3, 1, 0)
    assert "x.jpg, annotation 4: left out" in done["failures"][0]
    assert [len(result.annotations) for result in results] == [2, 1]
    scores = evaluate(labels(tmp_path), file)
    assert (scores.photos, scores.segments, scores.left_out) == (2, 3, done["left_out"])


@pytest.mark.parametrize(
    "mask",
    [[[100, 100, 120, 100, 120, 120]], [[2, 2, 12, 2, 22, 2]], {"size": [40, 60], "counts": "P[2"}],
)
def test_a_mask_without_a_pixel_is_said(tmp_path: Path, mask: Any):
    file = write(tmp_path / "c.json", [*good(), annotation(4, 1, mask)])
    done, _ = imported(file)
    assert (done["masks"], done["mended"]) == (4, {EMPTY: 1})
    assert evaluate(labels(tmp_path), file).mended == {EMPTY: 1}


def test_a_square_of_one_pixel_is_one(tmp_path: Path):
    done, _ = imported(write(tmp_path / "c.json", [annotation(1, 1, [[0, 0, 1, 0, 1, 1, 0, 1]])]))
    assert (done["masks"], done["masks_left_out"], done["mended"]) == (1, 0, {})


def test_run_lengths_of_another_size_name_both(tmp_path: Path):
    done, _ = imported(write(tmp_path / "c.json", [annotation(4, 1, LEFT_OUT["another size"])]))
    assert "size [60, 40], the image's [40, 60]" in done["failures"][0]


@pytest.mark.parametrize("case", MENDED)
def test_a_mask_that_can_be_understood_is_mended(tmp_path: Path, case: str):
    file = write(tmp_path / "c.json", [annotation(1, 1, MENDED[case])])
    done, results = imported(file)
    assert (done["masks"], done["masks_left_out"]) == (1, 0)
    (found,) = results.read("x.jpg").annotations
    expected = rle.decode([rle.from_polygons([SQUARE], SIZE)], SIZE)
    assert (rle.decode([found["segmentation"]], SIZE) == expected).all()
    assert bool(done["mended"]) == (case != "lengths as floats")
    assert evaluate(labels(tmp_path), file).mended == done["mended"]


def test_compressed_run_lengths_without_the_last_zeros_are_mended(tmp_path: Path):
    from pycocotools import mask as coco_mask

    text = coco_mask.frPyObjects({"size": list(SIZE), "counts": [82, 10]}, *SIZE)["counts"].decode()
    done, results = imported(write(tmp_path / "c.json", [annotation(1, 1, {"counts": text})]))
    assert done["mended"] == {"run lengths without the last run of zeros": 1}
    assert results.read("x.jpg").annotations[0]["area"] == 10


@pytest.mark.parametrize(
    ("score", "expected"), [(None, 1.0), ("0.9", 0.9), ("high", 1.0), ([1], 1.0), (1e300, 1.0)]
)
def test_an_unknown_score_is_one(tmp_path: Path, score: Any, expected: float):
    done, results = imported(write(tmp_path / "c.json", [annotation(1, 1, [SQUARE], score=score)]))
    assert results.read("x.jpg").annotations[0]["predicted_iou"] == expected
    assert ("score unknown: 1.0" in done["mended"]) == (score != "0.9")


@pytest.mark.parametrize("ids", [["a", "b"], [1, "1"], [None, 2], [5, 5], [{}, []], [2**60, 1]])
def test_ids_that_are_no_numbers_are_replaced(tmp_path: Path, ids: list[Any]):
    rows = [annotation(key, 1, [shape]) for key, shape in zip(ids, (SQUARE, OTHER), strict=True)]
    rows[1]["parent_id"] = ids[0]
    done, results = imported(write(tmp_path / "c.json", rows))
    found = results.read("x.jpg").annotations
    assert [row["id"] for row in found] == [0, 1]
    assert done["mended"]["ids renumbered"] == 2
    assert found[1]["parent_id"] in ([0, None] if ids != [5, 5] else [0, 1, None])


@pytest.mark.parametrize(
    "about",
    [{"area": None}, {"area": "x"}, {"bbox": None}, {"bbox": [1]}, {"iscrowd": None},
     {"crop_box": "x", "point_coords": [[1]]}, {"category_id": None}, {"category_id": [3]}],
)  # fmt: skip
def test_other_fields_cost_nothing(tmp_path: Path, about: dict[str, Any]):
    file = write(tmp_path / "c.json", [annotation(1, 1, [SQUARE]) | about, *good()[2:]])
    done, results = imported(file)
    assert (done["photos"], done["masks"], done["failed"]) == (2, 2, 0)
    assert results.read("x.jpg").annotations[0]["area"] == 100
    assert evaluate(labels(tmp_path), file).segments == 2


@pytest.mark.parametrize(
    ("of", "refers"), [("1", 1), (1, "1"), (1.0, "1"), (2**100, 2**100), (2**64, str(2**64))]
)
def test_ids_of_images_are_equal_as_text_and_as_numbers(tmp_path: Path, of: Any, refers: Any):
    rows = [annotation(2**100 + 1, refers, [SQUARE], note=0.1234567890123456)]
    done, results = imported(write(tmp_path / "c.json", rows, [image(of, "x.jpg")]))
    assert (done["masks"], done["masks_left_out"]) == (1, 0)
    assert len(results.read("x.jpg").annotations) == 1


def test_classes_of_ids_as_text_keep_their_names(tmp_path: Path):
    rows = [annotation(1, 1, [SQUARE], category_id="1")]
    _, results = imported(write(tmp_path / "c.json", rows))
    assert results.read("x.jpg").annotations[0]["category"] == "a"


def test_halves_of_characters_cost_nothing_but_the_name(tmp_path: Path):
    # As Python writes names that are not UTF-8; a whole character, and a backslash before "udc80".
    names = ["a\udc80.jpg", "\U0001f600.jpg", "\\udc80 b.jpg"]
    rows = [annotation(number, number, [SQUARE]) for number in range(3)]
    images = [image(number, name) for number, name in enumerate(names)]
    file = write(tmp_path / "c.json", rows, images)
    done, results = imported(file)
    assert (done["masks"], done["failed"]) == (3, 0)
    assert set(results.files) == {"a\ufffd.jpg", names[1], "udc80 b.jpg"}


def test_escapes_of_urls_in_names_are_read(tmp_path: Path):
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "a b.jpg")
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "100%25.jpg")
    images = [image(1, "a%20b.jpg"), image(2, "100%25.jpg"), image(3, "%2e%2e%2fx.jpg")]
    done, results = imported(write(tmp_path / "c.json", [], images))
    assert set(results.files) == {"a b.jpg", "100%25.jpg", "%2e%2e%2fx.jpg"}
    assert done["photos_not_found"] == 1


@pytest.mark.parametrize(
    "name",
    [
        *(" x.jpg", "x.jpg\n", "x.jpg?raw=1", "/up/x.jpg?token=secret"),
        *("/data/local-files/?d=up/x.jpg", "https://host:8080/data/local-files/?d=up%2Fx.jpg"),
    ],
)
def test_spaces_and_queries_are_no_part_of_a_name(tmp_path: Path, name: str):
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "x.jpg")
    done, results = imported(write(tmp_path / "c.json", [], [image(1, name)]))
    assert list(results.files) == ["x.jpg"]
    assert done["photos_not_found"] == 0


def test_an_annotation_without_its_image_is_counted(tmp_path: Path):
    rows = [*good(), annotation(4, 99, [SQUARE]), annotation(5, None, [SQUARE]), 3, {}]
    file = write(tmp_path / "c.json", rows)
    done, _ = imported(file)
    assert (done["photos"], done["masks"], done["masks_left_out"]) == (2, 3, 4)
    assert done["left_out"] == {"without an image": 3, "not a record": 1}
    assert evaluate(labels(tmp_path), file).left_out == done["left_out"]


@pytest.mark.parametrize(
    "bad", [{"id": 3}, None, image(3, ""), image(3, "z.jpg", width=0), image(3, "z.jpg", width=4.5),
            {"id": 3, "file_name": "z.jpg", "height": 4}],
)  # fmt: skip
def test_an_image_that_cannot_be_used_costs_only_itself(tmp_path: Path, bad: Any):
    images = [image(1, "x.jpg"), bad, image(2, "y.jpg")]
    done, results = imported(write(tmp_path / "c.json", good(), images))
    assert (done["photos"], done["masks"], done["failed"]) == (2, 3, 1)
    assert list(results.files) == ["x.jpg", "y.jpg"]


def test_images_that_share_an_id_are_ambiguous(tmp_path: Path):
    images = [image(1, "x.jpg"), image(1, "y.jpg"), image(2, "z.jpg")]
    done, results = imported(write(tmp_path / "c.json", good(), images))
    assert (done["photos"], done["masks"], done["failed"], done["masks_left_out"]) == (1, 1, 2, 2)
    assert list(results.files) == ["z.jpg"]


def test_an_image_that_is_listed_twice_is_one(tmp_path: Path):
    for number, name in enumerate(("x.jpg", "./x.jpg")):
        file = write(tmp_path / str(number) / "c.json", good(), [image(1, "x.jpg"), image(2, name)])
        done, results = imported(file)
        assert (done["photos"], done["masks"], done["skipped"], done["failed"]) == (1, 3, 0, 0)
        assert len(results.read("x.jpg").annotations) == 3
    images = [image(1, "x.jpg"), image(2, "x.jpg", width=9)]
    done, _ = imported(write(tmp_path / "d.json", good(), images))
    assert (done["photos"], done["failed"]) == (0, 2)


def test_skipped_means_that_it_was_there_before(tmp_path: Path):
    one, two = (write(tmp_path / f"{n}.json", good()) for n in (1, 2))
    done = import_labels([one, two], tmp_path / "out")
    assert (done.photos, done.masks, done.skipped, done.failed) == (2, 3, 0, 2)
    assert "imported already" in done.failures[0]
    again = import_labels([one], tmp_path / "out")
    assert (again.photos, again.skipped, again.failed) == (0, 2, 0)


def test_evaluate_takes_the_folder_of_a_coco_file(tmp_path: Path) -> None:
    write(tmp_path / "set/annotations/instances_val.json", good())
    assert evaluate(labels(tmp_path), tmp_path / "set").segments == 3
    for name in ("x.jpg", "y.jpg"):
        Image.new("RGB", SIZE[::-1]).save(tmp_path / "p" / name)
    images = images_with_masks(tmp_path / "set", None, 1, images=tmp_path / "p")
    assert [len(masks) for _, masks in images] == [2, 1]
    write(tmp_path / "set/annotations/instances_train.json", good())
    with pytest.raises(InputError, match=r"give one \(instances_train.json, instances_val.json"):
        evaluate(labels(tmp_path), tmp_path / "set")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_files_of_windows_editors(tmp_path: Path, encoding: str):
    file = write(tmp_path / "c.json", good())
    file.write_text(file.read_text(), encoding=encoding)
    assert imported(file)[0]["masks"] == 3


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_files(tmp_path: Path, pack: Callable[[bytes], bytes]):
    file = write(tmp_path / "c.json", good())
    packed = tmp_path / "packed.json"
    packed.write_bytes(pack(file.read_bytes()))
    assert imported(packed)[0]["masks"] == 3
    assert evaluate(labels(tmp_path), packed).segments == 3
    for length in (-12, 60):
        packed.write_bytes(packed.read_bytes()[:length])
        for read in (lambda: imported(packed), lambda: evaluate(tmp_path / "l", packed)):
            with pytest.raises(InputError, match=r"damaged or cut off .* another copy"):
                read()


def test_text_that_is_not_utf_8_and_zip_archives_are_one_line(tmp_path: Path):
    file = write(tmp_path / "c.json", good(), categories=[{"id": 1, "name": "\udce9t\udce9"}])
    text = file.read_bytes().replace(b"\\udce9", b"\xe9")
    for content, said in ((text, "is not UTF-8 .* save it as UTF-8"), (b"PK\3\4", "unpack it")):
        file.write_bytes(content)
        for read in (lambda: imported(file), lambda: evaluate(labels(tmp_path), file)):
            with pytest.raises(InputError, match=said):
                read()


@pytest.mark.parametrize(("name", "photos"), [("annotations", 2), ("images", 0), ("categories", 2)])
def test_a_list_that_is_null_is_empty_which_is_said(tmp_path: Path, name: str, photos: int):
    file = write(tmp_path / "c.json", good())
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: None}))
    done, _ = imported(file)
    assert done["photos"] == photos
    nameless = {NO_CLASS: 3} if name == "categories" else {}
    assert done["mended"] == {f"{name} are null, read as an empty list": 1} | nameless
    assert done["masks_left_out"] == (3 if name == "images" else 0)
    if photos:
        scores = evaluate(labels(tmp_path), file)
        assert (scores.segments, scores.mended) == (done["masks"], done["mended"])


def test_nan_is_unknown(tmp_path: Path):
    rows = [annotation(1, 1, [SQUARE], area=float("nan"), score=float("-inf"), note='a, NaN: "')]
    file = write(tmp_path / "c.json", rows, [image(1, "NaN: NaN, x.jpg")])
    assert "NaN" in file.read_text()
    _, results = imported(file)
    (found,) = results.read("NaN: NaN, x.jpg").annotations
    assert (found["predicted_iou"], found["area"]) == (1.0, 100)
    write_labels(tmp_path / "l", tmp_path / "p", {"NaN: NaN, x.jpg": [WHOLE]})
    assert evaluate(tmp_path / "l", file).segments == 1


def test_nan_is_found_wherever_a_block_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    nan, inf = float("nan"), float("inf")
    values = [nan, -inf, 'NaN "\\', [inf, "-Infinity", "\\", 17], "x: NaN, ", nan]
    whole, small = 2**90, "0.0000" + "1" * 40
    file = tmp_path / "c.json"
    text = json.dumps({"images": [*values, whole, -whole]})
    file.write_text(text.replace("]}", f", {small}, -{small}, 12]}}"))
    expected = [None, None, values[2], [None, *values[3][1:]], values[4], None]  # type: ignore[index]
    expected += [str(whole), str(-whole), float(small), -float(small), 12]
    for block in (1, 2, 3, 5, 8, 13, 1000):
        monkeypatch.setattr(json_stream, "_BLOCK", block)
        assert list(read_items(file, "images", lambda part: None, with_nan=True)) == expected


@pytest.mark.parametrize("key", ["coco_url", "flickr_url"])
def test_addresses_alone_are_names(tmp_path: Path, key: str):
    about = {"id": 1, "width": 60, "height": 40, "file_name": None}
    url = "http://images.cocodataset.org/train2017/1.jpg?key=secret"
    (found,) = CocoReader(write(tmp_path / "c.json", [], [about | {key: url}]))
    assert found.name == "train2017/1.jpg"


def test_categories_without_names_are_called_by_their_ids(tmp_path: Path):
    rows = [annotation(n, 1, [SQUARE], category_id=c) for n, c in enumerate([1, 2, 3, 9])]
    classes = [{"id": 1}, {"id": 2, "name": "cat"}, {"id": 3, "name": "cat"}, None]
    (found,) = CocoReader(write(tmp_path / "c.json", rows, [image(1, "x.jpg")], categories=classes))
    assert [row["category"] for row in found.annotations] == ["1", "cat", "cat (3)", "9"]


def test_two_categories_of_one_id_are_said(tmp_path: Path):
    classes = [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]
    done, results = imported(write(tmp_path / "c.json", good(), categories=classes))
    assert {row["category"] for row in results.read("x.jpg").annotations} == {"cat"}
    assert [what for what in done["mended"] if "whose id another one has" in what]


NAMES = {
    "./x.jpg": "x.jpg",
    "images\\x.jpg": "images/x.jpg",
    "../../media/upload/4/x.jpg": "media/upload/4/x.jpg",
    "/home/u/images/x.jpg": "home/u/images/x.jpg",
    "C:\\Users\\u\\x.jpg": "Users/u/x.jpg",
    "https://host/p/a%20b.jpg": "p/a b.jpg",
    "file:///data/x.jpg": "data/x.jpg",
    "s3://bucket/a/x.jpg": "a/x.jpg",
    "a//b/./c/../x.jpg": "a/b/x.jpg",
    normalize("NFD", "Größe.jpg"): normalize("NFC", "Größe.jpg"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_never_lead_out_of_the_folder(name: str):
    assert image_name(name) == NAMES[name]


@pytest.mark.parametrize(
    "name", [*NAMES, "https://user:pass@host/deep/x.jpg?X-Signature=secret#1", "/data/?d=q/x.jpg"]
)
@pytest.mark.parametrize("where", ["beside", "photos"])
def test_images_are_found_by_their_last_parts(tmp_path: Path, name: str, where: str):
    home = tmp_path if where == "beside" else tmp_path / "elsewhere"
    for found in ("x.jpg", "images/x.jpg", "a b.jpg", normalize("NFC", "Größe.jpg")):
        (home / found).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(home / found)
    file = write(tmp_path / "c.json", [annotation(1, 1, [SQUARE])], [image(1, name)])
    done, results = imported(file, None if where == "beside" else home)
    assert (done["photos"], done["masks"], done["photos_not_found"]) == (1, 1, 0)
    (key,) = results.files
    source = results.image(key, key)
    assert source is not None
    assert source.path.is_file()
    texts = [path.read_bytes() for path in results.root.rglob("*") if path.is_file()]
    assert not any(b"secret" in text or b"pass@" in text for text in texts)
    (truth,) = CocoReader(file)
    assert evaluate(results.root, file).segments == len(truth.annotations) == 1


def test_one_file_is_not_taken_for_two_images(tmp_path: Path):
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "x.jpg")
    images = [image(1, "/a/x.jpg"), image(2, "/b/x.jpg")]
    done, results = imported(write(tmp_path / "c.json", good(), images))
    assert (done["photos"], done["photos_not_found"], done["failed"]) == (2, 2, 0)
    assert list(results.files) == ["a/x.jpg", "b/x.jpg"]


def test_a_backslash_may_be_part_of_a_name(tmp_path: Path):
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "a\\x.jpg")
    file = write(tmp_path / "c.json", [], [image(1, "a\\x.jpg")])
    (found,) = CocoReader(file, ImageFinder(file))
    assert (found.name, found.folder) == ("a\\x.jpg", tmp_path)


def test_a_file_without_any_usable_image_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"not a COCO file .*it has no file_name"):
        list(CocoReader(write(tmp_path / "c.json", [], [{"id": 1}])))


def test_images_of_another_size_are_left_out_of_the_scores(tmp_path: Path):
    images = [image(1, "x.jpg", width=40, height=60), image(2, "y.jpg")]
    file = write(tmp_path / "c.json", good(), images)
    scores = evaluate(labels(tmp_path), file)
    assert (scores.photos, scores.segments) == (1, 1)
    assert scores.other_size == ("x.jpg: 60 x 40 px were labelled, the ground truth has 40 x 60",)
    assert scores.to_json()["other_size"] == scores.other_size


def test_a_tally_goes_back_to_what_it_was() -> None:
    tally = ReadingTally()
    tally.mend("a")
    earlier = ReadingTally(mended=tally.mended.copy())
    tally.leave_out("b", "c")
    tally.reset_to(earlier)
    assert tally == earlier
