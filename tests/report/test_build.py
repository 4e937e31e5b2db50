"""The report's files; tests/report/test_page.py looks at them in a browser."""

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from everything.errors import InputError, StoreError
from everything.report.build import PREVIEW, write_report
from everything.report.preview import write_preview
from tests.labelled import disc, write_labels

MASKS = [disc((30, 40), (20, 15), 12), disc((30, 40), (20, 15), 5)]


def index_of(page: Path) -> dict:
    text = re.search(r'id="index">(.*?)</script>', page.read_text(), re.DOTALL)
    assert text
    return json.loads(text[1])


def data_of(page: Path, number: int) -> list:
    text = (page.parent / "data" / f"{number:06d}.js").read_text()
    start = f"everythingPhoto({number},"
    assert text.startswith(start)
    return json.loads(text.removeprefix(start).strip().removesuffix(")"))


def test_a_folder_has_its_page(tmp_path: Path):
    out = write_labels(tmp_path / "out", tmp_path / "p", {"a/x.png": MASKS, "b.png": MASKS[:1]})
    page = write_report(out)
    assert page == out / "report" / "index.html"
    index = index_of(page)
    assert [photo["name"] for photo in index["photos"]] == ["a/x.png", "b.png"]
    assert [photo["found"][0]["masks"] for photo in index["photos"]] == [2, 1]
    assert index["photos"][0]["found"][0]["total"] == 1.75
    (rows,) = data_of(page, 0)
    assert [row[4] for row in rows] == [int(mask.sum()) for mask in MASKS]
    assert not {"http:", "https:"} & set(re.findall(r'(?:src|href)="(\w+:)', page.read_text()))


def test_large_photos_are_made_smaller(tmp_path: Path):
    big = disc((200, 3000), (900, 90), 80)
    page = write_report(write_labels(tmp_path / "out", tmp_path / "p", {"big.png": [big]}))
    with Image.open(page.parent / "photos" / "000000.jpg") as image:
        assert image.size == (PREVIEW, 85)
    photo = index_of(page)["photos"][0]
    assert (photo["width"], photo["wide"], photo["high"]) == (3000, PREVIEW, 85)


def test_a_photo_that_is_gone_is_said_to_be(tmp_path: Path):
    out = write_labels(tmp_path / "out", tmp_path / "p", {"a.png": MASKS})
    (tmp_path / "p" / "a.png").unlink()
    page = write_report(out)
    assert "the image is not found" in index_of(page)["photos"][0]["missing"]
    (tmp_path / "moved").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "moved" / "a.png")
    assert index_of(write_report(out, photos=tmp_path / "moved"))["photos"][0]["missing"] == ""


def test_several_folders_side_by_side(tmp_path: Path):
    photos = tmp_path / "p"
    one = write_labels(tmp_path / "one", photos, {"a.png": MASKS, "b.png": MASKS})
    two = write_labels(
        tmp_path / "two", photos, {"a.png": MASKS[:1]}, sampler="other", failures={"b.png": "why"}
    )
    page = write_report([one, two], tmp_path / "page")
    index = index_of(page)
    assert [folder["label"] for folder in index["folders"]] == ["one", "two"]
    assert index["photos"][1]["found"][1] is None
    assert index["photos"][1]["reasons"] == ["", "why"]
    assert data_of(page, 1)[1] is None
    assert "other" in page.read_text()


def test_several_folders_need_a_place(tmp_path: Path):
    with pytest.raises(InputError, match="--out"):
        write_report([tmp_path, tmp_path])


def test_another_folder_is_not_overwritten(tmp_path: Path):
    out = write_labels(tmp_path / "out", tmp_path / "p", {"a.png": MASKS})
    home = tmp_path / "home"
    (home / "photos").mkdir(parents=True)
    (home / "photos" / "000000.jpg").write_bytes(b"mine")
    with pytest.raises(StoreError, match="not empty and not a report"):
        write_report(out, home)
    assert (home / "photos" / "000000.jpg").read_bytes() == b"mine"


def test_a_report_is_replaced_with_all_its_files(tmp_path: Path):
    out = write_labels(tmp_path / "out", tmp_path / "p", {"a.png": MASKS, "b.png": MASKS})
    page = write_report(out)
    assert len(list((page.parent / "data").iterdir())) == 2
    write_report(out, limit=1)
    assert len(list((page.parent / "data").iterdir())) == 1
    assert "the first 1 of 2 images" in page.read_text()


def test_names_and_reasons_are_never_markup(tmp_path: Path):
    name = "<img src=x onerror=alert(1)>.png"
    failures = {"<b>x": "</script><script>alert(2)</script>", "{{ 7 * 7 }}": "&amp;"}
    out = write_labels(
        tmp_path / "<i>out", tmp_path / "p", {name: MASKS}, sampler="<u>s", failures=failures
    )
    text = write_report(out).read_text()
    for markup in ("<img src=x", "<b>x", "<script>alert", "<i>out", "<u>s"):
        assert markup not in text
    assert "{{ 7 * 7 }}" in text
    assert text.count("<script") == 2


def test_the_page_allows_its_own_script_only(tmp_path: Path):
    page = write_report(
        write_labels(tmp_path / "out", tmp_path / "p", {"a.png": MASKS})
    ).read_text()
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules.pop("default-src") == "'none'"
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    own = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules.pop("script-src") == f"'self' file: 'sha256-{own}'"
    assert rules == {"img-src": "'self' file: data:", "style-src": "'unsafe-inline'"}
    assert page.index("Content-Security-Policy") < page.index("<script")


def test_no_photos_at_all(tmp_path: Path):
    out = write_labels(tmp_path / "out", tmp_path / "p", {}, failures={"a.png": "broken"})
    page = write_report(out)
    assert index_of(page)["photos"] == []
    assert "broken" in page.read_text()


def test_progress_is_told(tmp_path: Path):
    out = write_labels(tmp_path / "out", tmp_path / "p", {"a.png": MASKS, "b.png": MASKS})
    steps: list[tuple[int, int]] = []
    write_report(out, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 2), (2, 2)]


def test_preview_never_fails_the_job(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    out = write_labels(tmp_path / "out", tmp_path / "p", {"a.png": MASKS})
    assert write_preview(out) == out / "report" / "index.html"
    (out / "report").rename(tmp_path / "elsewhere")
    (out / "report").write_text("in the way")
    assert write_preview(out) == out
    assert "the report was not written" in caplog.text


def test_an_annotation_file_that_was_edited_is_listed_and_the_rest_shown(tmp_path: Path):
    out = write_labels(tmp_path / "out", tmp_path / "p", {"a.png": MASKS, "b.png": MASKS})
    more = write_labels(tmp_path / "more", tmp_path / "p", {"a.png": MASKS, "b.png": MASKS})
    for folder, name in ((out, "a.png"), (more, "a.png"), (more, "b.png")):
        (folder / f"annotations/{name}.json").write_text("{}")
    page = write_report(out)
    first, second = index_of(page)["photos"]
    assert (first["name"], first["found"], second["found"][0]["masks"]) == ("a.png", [None], 2)
    assert "not an annotation file" in first["missing"]
    told = json.loads((page.parent / "report.json").read_bytes())
    assert [folder["unreadable"] for folder in told["folders"]] == [1]
    assert [failure["name"] for failure in told["failures"]] == ["a.png"]
    assert "everythingPhoto(0,[null])" in (page.parent / "data/000000.js").read_text()
    assert (page.parent / "thumbs/000000.jpg").exists()
    both = write_report([out, more], tmp_path / "both")
    second = index_of(both)["photos"][1]
    assert (second["missing"], second["reasons"][0]) == ("", "")
    assert "not an annotation file" in second["reasons"][1]


def test_a_report_deletes_its_own_files_only(tmp_path: Path):
    out = write_labels(tmp_path / "out", tmp_path / "p", {"a.png": MASKS, "b.png": MASKS})
    page = write_report(out)
    theirs = {"photos/mine.jpg": b"x", "notes.txt": b"y", "data/000009.js": b"z"}
    for name, content in theirs.items():
        (page.parent / name).write_bytes(content)
    write_report(out, limit=1)
    for name, content in theirs.items():
        assert (page.parent / name).read_bytes() == content
    assert not (page.parent / "data/000001.js").exists()


def test_a_report_of_a_version_without_a_list_is_replaced(tmp_path: Path):
    out = write_labels(tmp_path / "out", tmp_path / "p", {"a.png": MASKS, "b.png": MASKS})
    page = write_report(out)
    (page.parent / ".everything.jsonl").unlink()
    (page.parent / "photos/mine.jpg").write_bytes(b"mine")
    write_report(out, limit=1)
    assert sorted(path.name for path in (page.parent / "photos").iterdir()) == [
        "000000.jpg", "mine.jpg",
    ]  # fmt: skip
    assert (page.parent / ".everything.jsonl").is_file()


@pytest.mark.parametrize("name", ["photos", "data", "thumbs", "report.json", "index.html"])
def test_links_in_a_report_are_not_followed(tmp_path: Path, name: str):
    out = write_labels(tmp_path / "out", tmp_path / "p", {"a.png": MASKS})
    own = write_report(out).parent / name
    own.rename(tmp_path / "theirs")
    own.symlink_to(tmp_path / "theirs")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(StoreError, match="a link"):
        write_report(out)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_a_link_in_place_of_the_default_folder_is_refused(tmp_path: Path):
    out = write_labels(tmp_path / "out", tmp_path / "p", {"a.png": MASKS})
    (tmp_path / "theirs").mkdir()
    (out / "report").symlink_to(tmp_path / "theirs")
    with pytest.raises(StoreError, match="a link"):
        write_report(out)
    assert list((tmp_path / "theirs").iterdir()) == []
    assert write_report(out, tmp_path / "page").is_file()
