"""A person's review: read, fitted to labels, and obeyed."""

import json
import logging
from pathlib import Path

import pytest

from everything.core.sa1b import Annotation
from everything.errors import InputError
from everything.io.results.mask_filter import MaskFilter
from everything.io.results.reader import Results
from everything.io.results.review import FORMAT, ImageReview, MaskReview, Review, fingerprint
from everything.jobs.filter_labels import filter_labels
from tests.labelled import disc, records, write_labels

SIZE = (60, 80)
WHOLE, PART, AWAY = disc(SIZE, (25, 30), 20), disc(SIZE, (25, 30), 7), disc(SIZE, (65, 30), 9)
X, Y, Z = records([PART, WHOLE, AWAY]), records([AWAY]), records([PART])


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    masks = {"a/x.png": [PART, WHOLE, AWAY], "y.png": [AWAY], "z.png": [PART]}
    return write_labels(tmp_path / "labels", tmp_path / "photos", masks)


def said(annotation: Annotation, **more: object) -> dict:
    code = fingerprint(annotation["segmentation"])
    return {"id": annotation["id"], "crc32": code, "area": annotation["area"], **more}


def image(name: str, *masks: dict, **more: object) -> dict:
    size = {"width": SIZE[1], "height": SIZE[0]}
    return {"file_name": name, **size, "masks": list(masks), **more}


def review(*images: dict, accepted_only: bool = False) -> Review:
    return Review("r.json", map(ImageReview.model_validate, images), accepted_only)


def kept(labels: Path, *images: dict, level: str = "all", accepted_only: bool = False) -> dict:
    keep = MaskFilter(level=level, reviewed=review(*images, accepted_only=accepted_only))
    results = Results(labels, keep=keep)
    return {key: [one["id"] for one in results.read(key).annotations] for key in results.files}


def test_a_fingerprint_is_the_crc_of_size_and_code() -> None:
    assert fingerprint({"size": [9, 7], "counts": "o13"}) == "2e0e1bd8"  # zlib.crc32(b"9 7 o13")


def test_what_was_not_rejected_is_kept(labels: Path) -> None:
    reviewed = image("a/x.png", said(X[0], verdict="rejected"), said(X[2], verdict="accepted"))
    assert kept(labels, reviewed) == {"a/x.png": [1, 2], "y.png": [0], "z.png": [0]}
    assert kept(labels, reviewed, image("y.png", verdict="rejected")) == {
        "a/x.png": [1, 2], "z.png": [0],
    }  # fmt: skip


def test_only_what_was_accepted_by_itself_or_with_its_image(labels: Path) -> None:
    reviewed = [
        image("a/x.png", said(X[0], verdict="rejected"), said(X[2], tag="t"), verdict="accepted"),
        image("y.png", said(Y[0], verdict="accepted")),
    ]
    assert kept(labels, *reviewed, accepted_only=True) == {"a/x.png": [1, 2], "y.png": [0]}
    without = image("a/x.png", said(X[1], verdict="rejected"), said(X[2], verdict="accepted"))
    assert kept(labels, without, accepted_only=True) == {"a/x.png": [2]}
    empty = image("z.png", said(Z[0], verdict="rejected"), verdict="accepted")
    assert kept(labels, empty, accepted_only=True) == {"z.png": []}, "an image of nothing"


def test_the_parts_of_a_rejected_object_do_not_become_objects(labels: Path) -> None:
    reviewed = image("a/x.png", said(X[1], verdict="rejected"))
    assert kept(labels, reviewed, level="whole")["a/x.png"] == [2]


def test_tags_become_classes(labels: Path) -> None:
    reviewed = image("a/x.png", said(X[1], tag="cat"), said(X[0], verdict="rejected", tag="dog"))
    results = Results(labels, keep=MaskFilter(reviewed=review(reviewed)))
    assert [one.get("category") for one in results.read("a/x.png").annotations] == ["cat", None]
    assert [(one.id, one.name) for one in results.categories] == [(1, "cat")]


def test_a_verdict_belongs_to_pixels_not_to_a_number() -> None:
    twins = [*records([PART]), *records([WHOLE]), *records([WHOLE])]
    for number, one in enumerate(twins):
        one["id"] = 5 + number
    masks = [said(twins[1], id=1, verdict="rejected"), said(twins[2], id=7, verdict="accepted")]
    found = ImageReview.model_validate(image("x", *masks)).matches(twins)
    assert {row: mask.verdict for row, mask in found.items()} == {2: "accepted", 1: "rejected"}
    assert not ImageReview.model_validate(image("x", said(X[1], area=1))).matches(twins)


def test_what_does_not_fit_is_counted_and_said(
    labels: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = records([disc(SIZE, (40, 40), 3)])[0]
    reviewed = [
        image("a/x.png", said(X[0], verdict="rejected"), said(other, verdict="rejected")),
        image("gone.png", said(Y[0], verdict="rejected")),
        image("z.png", said(Z[0], verdict="rejected"), height=61),
    ]
    results = Results(labels, keep=MaskFilter(reviewed=review(*reviewed)))
    with caplog.at_level(logging.WARNING):
        assert [one["id"] for one in results.read("a/x.png").annotations] == [1, 2]
        assert len(results.read("z.png").annotations) == 1, "the image has another size now"
    assert caplog.messages == ["r.json: not in these labels, ignored: 3 masks, 2 images"]
    assert results.review is not None
    assert (results.review.masks, len(results.review.images)) == (1, 1)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ([image("gone.png", verdict="rejected")], "none of its 1 images is in .*labels"),
        ([image("z.png", said(Y[0], verdict="rejected"))], "none of its 1 masks is in"),
        ([image(f"{n}.png", verdict="rejected") for n in ("a/x", "y", "z")], "leaves no image"),
    ],
)
def test_a_review_of_other_labels_is_refused(labels: Path, images: list, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        _ = Results(labels, keep=MaskFilter(reviewed=review(*images))).files


def test_nothing_accepted_leaves_nothing(labels: Path) -> None:
    with pytest.raises(InputError, match="leaves no image"):
        kept(labels, image("z.png", said(Z[0], tag="t")), accepted_only=True)


def test_sa1b_files_of_equal_image_names_are_told_apart(tmp_path: Path) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        about = {"image_id": 1, "file_name": "1.jpg", "height": SIZE[0], "width": SIZE[1]}
        content = json.dumps({"image": about, "annotations": X})
        (tmp_path / folder / "1.json").write_text(content)
    reviewed = image("1.jpg", said(X[0], verdict="rejected"), annotation="b/1")
    assert kept(tmp_path, reviewed) == {"a/1": [0, 1, 2], "b/1": [1, 2]}


def written(path: Path, *images: dict, **more: object) -> Path:
    path.write_text(json.dumps({"format": FORMAT, "version": 1, "images": list(images), **more}))
    return path


def test_a_file_is_read(tmp_path: Path) -> None:
    mask = said(X[0], verdict="rejected")
    file = written(tmp_path / "r.json", image("x", mask, tag="t"), labels="of any name")
    found = Review.read(file).images["x"]
    assert (found.tag, found.verdict, found.masks) == ("t", None, (MaskReview(**mask),))


@pytest.mark.parametrize(
    ("images", "more", "reason"),
    [
        ([], {"format": "coco"}, "not a review .format: "),
        ([], {"version": 2}, "version"),
        ([image("x", verdict="maybe")], {}, r"images\.0\.verdict"),
        ([image("x", said(X[0], crc32="12"))], {}, "crc32"),
        ([image("x", tag="")], {}, "tag"),
        ([image("x"), image("x")], {}, "x is there twice"),
        ([image("x", said(X[0]), said(X[0]))], {}, "a mask is there twice"),
    ],
)
def test_what_is_no_review_is_refused(
    tmp_path: Path, images: list, more: dict, reason: str
) -> None:
    file = written(tmp_path / "r.json", *images, **more)
    with pytest.raises(InputError, match=reason) as caught:
        Review.read(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(b'{"format": \xff')
    for name in ("r.json", "missing.json", "."):
        with pytest.raises(InputError):
            Review.read(tmp_path / name)


def test_a_review_is_of_an_images_content(tmp_path: Path) -> None:
    masks = {"y.png": [AWAY], "z.png": [PART]}
    labels = write_labels(tmp_path / "l", tmp_path / "p", masks, hashes={"y.png": 5, "z.png": -1})
    same, other = ({"source_hash": f"{n:016x}", "verdict": "rejected"} for n in (5, 6))
    assert kept(labels, image("y.png", **same), image("z.png", **other)) == {"z.png": [0]}
    with pytest.raises(InputError, match="none of its 1 images"):
        kept(labels, image("y.png", **other))
    assert kept(labels, image("y.png", verdict="rejected")) == {"z.png": [0]}, "of before"
    done = filter_labels(labels, tmp_path / "out", MaskFilter())
    assert done.photos == 2
    assert Results(tmp_path / "out").source_hash("z.png") == "f" * 16
