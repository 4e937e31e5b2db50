"""Reviewing on the report's page, and saving what is shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everything.io.results.mask_filter import MaskFilter
from everything.io.results.reader import Results
from everything.io.results.review import Review
from everything.jobs.filter_labels import filter_labels
from everything.jobs.import_labels import import_labels
from everything.report.build import write_report
from tests.labelled import write_labels
from tests.report.in_browser import AWAY, CHROMIUM, LARGE, SMALL, drawn, move, opened, point, see

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


def one(report: Path) -> Path:
    return report / "one" / "report" / "index.html"


def saved(page, button: str, tmp_path: Path) -> Path:
    """Press a button that saves a file."""
    with page.expect_download() as download:
        page.locator(button).click()
    download.value.save_as(tmp_path / download.value.suggested_filename)
    return tmp_path / download.value.suggested_filename


def press(page, *keys: str):
    for key in keys:
        page.keyboard.press(key)
        page.wait_for_timeout(40)


def pressed(page, button: str) -> bool:
    return page.locator(button).get_attribute("aria-pressed") == "true"


def test_a_review_by_keyboard_is_saved_and_obeyed(page, report: Path, tmp_path: Path):
    opened(page, one(report))
    press(page, "ArrowDown", "a", "ArrowDown", "r", "ArrowDown", "t")
    page.keyboard.type("ball")
    press(page, "Enter")
    see(page, "#reviewed", "Reviewed masks of this image: 1 accepted, 1 rejected, 1 tagged.")
    assert page.locator("#list tbody .said").all_inner_texts() == ["✓", "✗", "ball"]
    hatched = drawn(page)[SMALL].mean()
    assert hatched == 1, "the whole object below it is drawn"
    press(page, "ArrowLeft", "Shift+R")
    see(page, "#viewer-name", "a/b.png")
    file = saved(page, "#viewer .save-review", tmp_path)
    assert file.name == "review.json"
    review = Review.read(file)
    assert review.images["a/b.png"].verdict == "rejected"
    masks = [(m.id, m.verdict, m.tag) for m in review.images["b.png"].masks]
    assert masks == [(0, "accepted", None), (1, "rejected", None), (2, None, "ball")]
    labels = report / "one"
    done = filter_labels(labels, tmp_path / "out", MaskFilter(reviewed=review))
    assert (done.photos, done.photos_left_out, done.unknown_masks) == (2, 1, 0)
    kept = Results(tmp_path / "out").read("b.png").annotations
    assert [(m["id"], m.get("category")) for m in kept] == [(0, None), (2, "ball")]


def test_a_review_by_click_stays_in_the_browser(page, report: Path):
    opened(page, one(report))
    press(page, "a")
    see(page, ".details .announced", "Select a mask first: click on it, or press ↓.")
    point(page, 40, 45, click=True)
    page.locator("#rejected").click()
    assert pressed(page, "#rejected")
    page.locator("#tag").fill("wheel")
    page.keyboard.press("Enter")
    page.locator("#accepted-image").click()
    page.reload()
    see(page, "#shown", "3 of 3 masks shown")
    assert pressed(page, "#rejected")
    assert pressed(page, "#accepted-image")
    assert page.locator("#tag").input_value() == "wheel"
    page.locator("#rejected").click()
    assert not pressed(page, "#rejected"), "the same verdict again takes it back"
    page.locator("#close").click()
    tile = page.locator("#grid .tile").last
    playwright.expect(tile.locator(".count")).to_have_text("✓ accepted · 3 masks")
    page.locator("#only").select_option("not reviewed")
    see(page, "#found", "2 images")
    page.locator("#only").select_option("all images")
    page.locator("#with-class").select_option("wheel")
    see(page, "#found", "1 image")
    page.locator("#review summary").click()
    page.locator("#forget").click()
    see(page, "#forget", "Really delete the review of 1 image?")
    page.locator("#forget").click()
    see(page, "#review-count", "")
    page.reload()
    see(page, "#review-count", "")


def test_masks_are_filtered_by_verdict_and_class(page, report: Path):
    opened(page, one(report))
    press(page, "ArrowDown", "r", "ArrowDown", "t")
    page.keyboard.type("ball")
    press(page, "Enter")
    page.locator("#verdict").select_option("not rejected")
    see(page, "#shown", "2 of 3 masks shown")
    page.locator("#viewer-name").click()
    press(page, "ArrowDown", "r")
    see(page, "#shown", "1 of 3 masks shown")
    assert pressed(page, "#rejected") is False, "the next mask is selected"
    page.locator("#verdict").select_option("any")
    page.locator("#class").select_option("ball")
    see(page, "#shown", "1 of 3 masks shown")
    assert "class=%3Dball" in page.url
    page.locator("#class").select_option("none")
    see(page, "#shown", "2 of 3 masks shown")


def test_a_file_is_loaded_and_what_does_not_fit_is_said(page, report: Path, tmp_path: Path):
    opened(page, one(report))
    press(page, "ArrowDown", "r")
    file = saved(page, "#viewer .save-review", tmp_path)
    content = json.loads(file.read_text())
    (image,) = content["images"]
    image["masks"][0]["id"] = 9  # of labels that were made again
    image["masks"].append({"id": 0, "crc32": "00000000", "area": 5, "verdict": "accepted"})
    content["images"].append(image | {"file_name": "gone.png"})
    file.write_text(json.dumps(content))
    page.evaluate("localStorage.clear()")
    page.reload()
    see(page, "#reviewed", "Reviewed masks of this image: 0 accepted, 0 rejected, 0 tagged.")
    page.locator("#review-file").set_input_files(file)
    playwright.expect(page.locator(".details .announced")).to_contain_text("1 image left out")
    playwright.expect(page.locator("#reviewed")).to_contain_text("1 more verdicts are of masks")
    assert page.locator("#list tbody .said").all_inner_texts() == ["✗", "", ""]
    for wrong, reason in (('{"format": "coco"}', "not a review"), ("{", "JSON")):
        file.write_text(wrong)
        page.locator("#review-file").set_input_files(file)
        playwright.expect(page.locator(".details .announced")).to_contain_text(reason)
    file.write_text(json.dumps(content | {"images": [image | {"file_name": "gone.png"}]}))
    page.locator("#review-file").set_input_files(file)
    playwright.expect(page.locator(".details .announced")).to_contain_text("of other labels")


def test_each_folder_has_its_own_review(page, report: Path, tmp_path: Path):
    opened(page, report / "both" / "index.html")
    press(page, "ArrowDown", "a")
    file = saved(page, "#viewer .save-review", tmp_path)
    assert file.name == "review-one.json"
    assert json.loads(file.read_text())["labels"] == "one"


def test_shown_masks_are_saved_as_coco(page, report: Path, tmp_path: Path):
    opened(page, one(report))
    press(page, "ArrowDown", "t")
    page.keyboard.type("plate")
    press(page, "Enter")
    move(page, "iou", 80)
    file = saved(page, "#save-image", tmp_path)
    playwright.expect(page.locator(".details .announced")).to_contain_text("1 mask not shown")
    info = json.loads(file.read_text())["info"]
    assert (info["masks_left_out"], info["filters"]) == (1, {"level": "all", "iou": "80"})
    done = import_labels([file], tmp_path / "again", report / "photos")
    assert done.photos == 1
    (result,) = Results(tmp_path / "again")
    before = Results(report / "one").read("b.png").annotations[:2]
    assert [one["category"] for one in result.annotations] == ["plate", "object"]
    masks = [one["segmentation"] for one in result.annotations]
    assert masks == [one["segmentation"] for one in before]


def test_the_shown_masks_of_all_listed_images(page, report: Path, tmp_path: Path):
    page.goto(one(report).as_uri())
    page.locator("#find").fill("b.png")
    page.locator("#review summary").click()
    content = json.loads(saved(page, "#save-listed", tmp_path).read_text())
    assert [image["file_name"] for image in content["images"]] == ["a/b.png", "b.png"]
    assert len(content["annotations"]) == 3, "whole objects only"
    assert content["info"]["masks_left_out"] == 1


def test_failed_images_are_listed_with_their_reasons(page, report: Path):
    page.goto(one(report).as_uri())
    page.locator("#only").select_option("failed")
    see(page, "#found", "0 images, 1 without a result")
    assert page.locator("#lost li").inner_text().startswith("broken.jpg </td>")


def test_classes_of_labels_are_shown(page, tmp_path: Path):
    labels = write_labels(tmp_path / "l", tmp_path / "p", {"b.png": [LARGE, AWAY], "c.png": [AWAY]})
    file = labels / "annotations" / "b.png.json"
    content = json.loads(file.read_text())
    content["annotations"][1]["category"] = "moon"
    file.write_text(json.dumps(content))
    opened(page, write_report(labels))
    page.locator("#class").select_option("moon")
    see(page, "#shown", "1 of 2 masks shown")
    assert (drawn(page) == AWAY).all()
    page.locator("#close").click()
    page.locator("#with-class").select_option("moon")
    see(page, "#found", "1 image")


def test_a_list_of_thousands_is_complete(page, tmp_path: Path):
    masks = np.zeros((350, 90, 120), bool)
    for row in range(350):
        masks[row, row // 20 * 4, row % 20 * 5] = True
    Image.new("RGB", (120, 90)).save(tmp_path / "b.png")
    scores = [0.5] * len(masks)
    labels = write_labels(tmp_path / "l", tmp_path, {"b.png": [*masks]}, scores=scores)
    opened(page, write_report(labels))
    rows = page.locator("#list tbody tr")
    assert rows.count() < 350
    point(page, 45, 68, click=True)  # mask 349
    assert page.locator("#list tr.on").inner_text().startswith("349")
    assert rows.count() == 350


def test_a_browser_that_keeps_nothing_says_so(page, report: Path, tmp_path: Path):
    full = "() => { throw new DOMException('full', 'QuotaExceededError'); }"
    page.add_init_script(f"Storage.prototype.setItem = {full}")
    opened(page, one(report))
    press(page, "ArrowDown", "r")
    notice = page.locator(".details .announced")
    playwright.expect(notice).to_contain_text("does not keep the review (QuotaExceededError)")
    file = saved(page, "#viewer .save-review", tmp_path)
    assert Review.read(file).images["b.png"].masks[0].verdict == "rejected"


def test_two_tabs_share_a_review(browser, report: Path):
    context = browser.new_context()
    first, other = context.new_page(), context.new_page()
    for tab in (first, other):
        opened(tab, one(report))
    first.bring_to_front()
    press(first, "ArrowDown", "r")
    see(other, "#reviewed", "Reviewed masks of this image: 0 accepted, 1 rejected, 0 tagged.")
    context.close()


def test_saving_what_is_shown_can_be_stopped(page, report: Path):
    page.goto(one(report).as_uri())
    page.locator("#review summary").click()
    page.locator("#save-listed").evaluate("button => { button.click(); button.click(); }")
    see(page, "#review .announced", "Stopped: nothing was saved.")
    see(page, "#save-listed", "Save shown masks of all listed images")
    with page.expect_download():
        page.locator("#save-listed").click()


def test_a_review_is_not_of_another_image_with_the_name(page, tmp_path: Path):
    labels = write_labels(tmp_path / "l", tmp_path / "p", {"b.png": [LARGE]}, hashes={"b.png": 7})
    opened(page, write_report(labels))
    press(page, "Shift+R", "ArrowDown", "a")
    file = saved(page, "#viewer .save-review", tmp_path)
    (image,) = json.loads(file.read_text())["images"]
    assert image["source_hash"] == "0000000000000007"
    write_labels(tmp_path / "n", tmp_path / "p", {"b.png": [LARGE]}, hashes={"b.png": -1})
    labels.rename(tmp_path / "before")
    (tmp_path / "n").rename(labels)
    opened(page, write_report(labels))
    assert not pressed(page, "#rejected-image")
    see(page, "#reviewed", "Reviewed masks of this image: 0 accepted, 0 rejected, 0 tagged. "
        "A review of another image with this name is left out.")  # fmt: skip
    page.locator("#review-file").set_input_files(file)
    playwright.expect(page.locator(".details .announced")).to_contain_text("of other labels")
    press(page, "Shift+A")
    file = saved(page, "#viewer .save-review", tmp_path)
    (image,) = json.loads(file.read_text())["images"]
    assert (image["source_hash"], image["verdict"]) == ("f" * 16, "accepted")
