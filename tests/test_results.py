"""Results read back."""

import json
from pathlib import Path

import pytest

from everything.errors import InputError
from everything.results import Results
from tests.labelled import disc, records, write_labels

MASK = disc((30, 40), (20, 15), 8)


def test_what_the_store_wrote_comes_back(tmp_path: Path):
    write_labels(tmp_path / "out", tmp_path / "photos", {"a/x.png": [MASK], "b.png": [MASK] * 2})
    results = Results(tmp_path / "out")
    assert list(results.files) == ["a/x.png", "b.png"]
    one, two = results
    assert (one.name, one.size, len(one.annotations), len(two.annotations)) == (
        "a/x.png", (30, 40), 1, 2,
    )  # fmt: skip
    assert sum(one.seconds()) == one.timing["total"]
    assert one.recipe["variant"] == "toy"
    assert results.photo("a/x.png", one.name) == tmp_path / "photos" / "a" / "x.png"


def test_sa1b_folder(tmp_path: Path):
    about = {"image_id": 7, "width": 40, "height": 30, "file_name": "sa_7.jpg"}
    content = {"image": about, "annotations": records([MASK])}
    (tmp_path / "sa_7.json").write_text(json.dumps(content))
    (tmp_path / "sa_7.jpg").write_bytes(b"")
    (result,) = Results(tmp_path)
    assert (result.name, result.timing, result.seconds()) == ("sa_7.jpg", {}, [0.0] * 7)
    assert Results(tmp_path).photo("sa_7", "sa_7.jpg") == tmp_path / "sa_7.jpg"


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "a/../../b.jpg", ""])
def test_names_that_lead_out_of_the_folder_are_no_photos(tmp_path: Path, name: str):
    (tmp_path / "out" / "annotations").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(b"")
    results = Results(tmp_path / "out", tmp_path / "photos")
    results.files["x"] = tmp_path / "out" / "annotations" / "x.json"
    assert results.photo("x", name) is None


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"image": {}, "annotations": []}', '{"image": 1}', "\x00"]
)
def test_other_json_is_refused_by_name(tmp_path: Path, content: str):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match=r"x\.json: not an annotation file"):
        list(Results(tmp_path))


def test_a_missing_folder(tmp_path: Path):
    with pytest.raises(InputError, match="no such folder"):
        Results(tmp_path / "nothing")


def test_failures_that_were_mended_are_none(tmp_path: Path):
    failures = {"bad.jpg": "bad.jpg: broken", "later.png": "once"}
    write_labels(tmp_path / "o", tmp_path / "p", {"ok.png": [MASK]}, failures=failures)
    write_labels(tmp_path / "o", tmp_path / "p", {"later.png": [MASK]})
    assert Results(tmp_path / "o").failures == {"bad.jpg": "bad.jpg: broken"}


def test_a_cut_line_of_the_errors_is_skipped(tmp_path: Path):
    (tmp_path / "errors.jsonl").write_text('{"name": "a", "error": "b"}\n{"name": "c", "er')
    assert Results(tmp_path).failures == {"a": "b"}
