"""The report in a browser: what a person sees, points at, moves and types."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everything.io.results.mask_filter import MaskFilter
from everything.report.build import write_report
from tests.labelled import disc, write_labels
from tests.report.in_browser import (
    AWAY,
    CHROMIUM,
    HARMFUL,
    LARGE,
    SIZE,
    SMALL,
    described,
    drawn,
    move,
    opened,
    point,
    see,
)

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


def test_seconds_are_shown_where_the_results_have_them(page, tmp_path: Path):
    labels = write_labels(tmp_path / "labels", tmp_path / "photos", {"b.png": [LARGE]})
    opened(page, write_report(labels))
    see(page, "figcaption:has(b)", "labels: 1 of 1 masks, 1.75 s")
    (file,) = (labels / "annotations").glob("*.json")
    content = json.loads(file.read_text())
    del content["timing"]
    file.write_text(json.dumps(content))
    opened(page, write_report(labels))
    see(page, "figcaption:has(b)", "labels: 1 of 1 masks")


def test_masks_are_drawn_to_the_pixel(page, report: Path):
    opened(page, report / "one" / "report" / "index.html")
    assert (drawn(page) == (LARGE | SMALL | AWAY)).all()


def test_masks_of_a_shrunken_photo_are_where_they_were(page, tmp_path: Path):
    mask = disc((700, 2000), (1500, 300), 250) & ~disc((700, 2000), (1500, 300), 120)
    mask[:, 1999] = mask[0] = True
    opened(page, write_report(write_labels(tmp_path / "o", tmp_path / "p", {"b.png": [mask]})))
    seen = page.locator(".masks").evaluate(
        "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
        ".filter((_, i) => i % 4 === 3)"
    )
    rows, columns = (
        ((np.arange(n) + 0.5) * of / n).astype(int) for n, of in ((448, 700), (1280, 2000))
    )
    assert (np.array(seen).reshape(448, 1280).astype(bool) == mask[np.ix_(rows, columns)]).all()


def test_it_opens_on_whole_objects(page, report: Path):
    page.goto((report / "one" / "report" / "index.html").as_uri())
    assert page.title() == "Masks in one – everything"
    page.locator("#grid a").filter(has=page.get_by_text("b.png", exact=True)).last.click()
    see(page, "#shown", "2 of 3 masks shown")
    assert (drawn(page) == (LARGE | AWAY)).all()
    point(page, 40, 45)
    playwright.expect(page.locator("#mask")).to_contain_text("whole object")
    for key, masks in (("2", SMALL), ("3", SMALL & AWAY), ("4", LARGE | SMALL | AWAY)):
        page.keyboard.press(key)
        page.wait_for_timeout(60)
        assert (drawn(page) == masks).all()


def test_thumbnails_show_whole_objects_or_all_masks(page, report: Path):
    page.goto((report / "one" / "report" / "index.html").as_uri())
    image = page.locator("#grid img").last
    assert image.get_attribute("src") == "thumbs/000002.jpg"
    page.locator("#thumbs").select_option("all masks")
    assert image.get_attribute("src") == "thumbs/000002.all.jpg"
    playwright.expect(image).to_have_js_property("complete", True)
    assert image.evaluate("i => i.naturalWidth") == SIZE[1]
    thumbs = report / "one" / "report" / "thumbs"
    whole, every = (
        np.asarray(Image.open(thumbs / f"000002{ending}.jpg")).astype(int)
        for ending in ("", ".all")
    )
    differ = np.abs(whole - every).max(2) > 60
    assert differ[SMALL].any()
    assert not differ[~LARGE].any()


def test_the_list_is_sorted_by_any_column(page, report: Path):
    opened(page, report / "one" / "report" / "index.html")
    names = page.locator("#list tbody button")
    assert names.all_inner_texts() == ["0", "1", "2"]
    page.get_by_role("button", name="Area, px").click()
    assert names.all_inner_texts() == ["0", "2", "1"]
    page.get_by_role("button", name="Area, px").click()
    assert names.all_inner_texts() == ["1", "2", "0"]
    head = page.locator("#list th[data-column=area]")
    assert head.get_attribute("aria-sort") == "ascending"


def test_filters_and_the_selected_mask_are_in_the_address(page, report: Path):
    address = (report / "one" / "report" / "index.html").as_uri()
    opened(page, report / "one" / "report" / "index.html")
    move(page, "iou", 80)
    point(page, 40, 45, click=True)
    playwright.expect(page).to_have_url(f"{address}#2?level=all&iou=80&mask=1&pane=0")
    page.goto("about:blank")
    page.goto(f"{address}#2?level=all&iou=80&mask=1&pane=0")
    see(page, "#shown", "2 of 3 masks shown")
    playwright.expect(page.locator("#mask")).to_contain_text("1 (selected)")
    page.keyboard.press("Escape")
    playwright.expect(page).to_have_url(f"{address}#2?level=all&iou=80")
    page.keyboard.press("ArrowLeft")
    see(page, "#viewer-name", "a/b.png")
    playwright.expect(page).to_have_url(f"{address}#1?level=all&iou=80")  # filters stay
    see(page, "#shown", "1 of 1 masks shown")
    page.keyboard.press("Escape")
    playwright.expect(page.locator("#viewer")).to_be_hidden()
    page.locator("#grid a").last.click()
    see(page, "#shown", "2 of 3 masks shown")
    playwright.expect(page).to_have_url(f"{address}#2?level=all&iou=80")


def test_a_report_of_parts_opens_on_parts(page, report: Path, tmp_path: Path):
    write_report(report / "one", tmp_path / "parts", keep=MaskFilter(level="part"))
    page.goto((tmp_path / "parts" / "index.html").as_uri())
    playwright.expect(page.locator("#thumbs option").first).to_have_text("parts")
    page.locator("#grid a").filter(has=page.get_by_text("b.png", exact=True)).last.click()
    see(page, "#shown", "1 of 1 masks shown")
    assert (drawn(page) == SMALL).all()
    point(page, 40, 45)
    assert "whole object" not in described(page)


def test_a_telephone_shows_image_and_list_without_scrolling_sideways(browser, report: Path):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    opened(page, report / "one" / "report" / "index.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for selector in (".stage", "#close", "#next", "#tag-image", "#tag", "#list", "#mask"):
        box = page.locator(selector).first.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    page.close()


def test_hover_shows_one_mask_and_its_scores(page, report: Path):
    opened(page, report / "one" / "report" / "index.html")
    point(page, 40, 45)
    playwright.expect(page.locator("#mask")).to_contain_text("0.850")
    assert f"{SMALL.sum():,} px" in described(page)
    assert (drawn(page, "highlight") == SMALL).all()
    point(page, 20, 45)
    assert f"{LARGE.sum():,} px" in described(page)
    point(page, 2, 2)
    playwright.expect(page.locator("#mask")).to_contain_text("Point at a mask")
    assert not drawn(page, "highlight").any()


def test_click_keeps_a_mask_and_goes_through_those_below(page, report: Path):
    opened(page, report / "one" / "report" / "index.html")
    point(page, 40, 45, click=True)
    playwright.expect(page.locator("#mask")).to_contain_text("selected")
    point(page, 100, 45)
    assert f"{SMALL.sum():,} px" in described(page)
    point(page, 40, 45, click=True)
    assert f"{LARGE.sum():,} px" in described(page)
    page.keyboard.press("Escape")
    assert page.locator("#viewer").is_visible()
    assert "selected" not in described(page)


def test_sliders_filter_live(page, report: Path):
    opened(page, report / "one" / "report" / "index.html")
    move(page, "iou", 80)
    assert (drawn(page) == (LARGE | SMALL)).all()
    assert page.locator("#shown").inner_text() == "2 of 3 masks shown"
    move(page, "iou", 90)
    assert (drawn(page) == LARGE).all()
    point(page, 40, 45)
    assert f"{LARGE.sum():,} px" in described(page), "a mask that is filtered out is not hit"
    move(page, "iou", 100)
    assert not drawn(page).any()
    move(page, "iou", 0)
    move(page, "stability", 93)
    assert page.locator("#list tbody tr").count() == 2
    move(page, "stability", 0)
    move(page, "largest", 80)
    assert (drawn(page) == (SMALL | AWAY)).all()
    move(page, "largest", 100)
    move(page, "smallest", 95)
    assert (drawn(page) == LARGE).all()


def test_keyboard_moves_between_photos_and_masks(page, report: Path):
    opened(page, report / "one" / "report" / "index.html", HARMFUL)
    assert page.locator("#place").inner_text() == "1 of 3"
    page.keyboard.press("ArrowRight")
    see(page, "#place", "2 of 3")
    see(page, "#viewer-name", "a/b.png")
    page.keyboard.press("ArrowRight")
    see(page, "#place", "3 of 3")
    page.keyboard.press("ArrowRight")
    see(page, "#place", "3 of 3")
    see(page, "#shown", "3 of 3 masks shown")
    page.keyboard.press("ArrowDown")
    playwright.expect(page.locator("#mask")).to_contain_text("0.950")
    page.keyboard.press("ArrowDown")
    playwright.expect(page.locator("#mask")).to_contain_text("0.850")
    page.keyboard.press("ArrowUp")
    playwright.expect(page.locator("#mask")).to_contain_text("0.950")
    page.keyboard.press("m")
    playwright.expect(page.locator(".masks")).to_be_hidden()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    playwright.expect(page.locator("#viewer")).to_be_hidden()
    playwright.expect(page.locator("#grid a[href='#2']")).to_be_focused()


def test_arrows_on_a_slider_move_the_slider(page, report: Path):
    opened(page, report / "one" / "report" / "index.html", "a/b.png")
    page.locator("#iou").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#iou").input_value() == "1"
    see(page, "#viewer-name", "a/b.png")


def test_an_address_opens_its_photo_and_back_leaves_it(page, report: Path):
    address = (report / "one" / "report" / "index.html").as_uri()
    page.goto(address)
    page.locator("#grid a").nth(1).click()
    page.go_back()
    playwright.expect(page.locator("#viewer")).to_be_hidden()
    page.goto(address + "#2")
    see(page, "#viewer-name", "b.png")


@pytest.mark.parametrize("which", ["one/report", "both"])
def test_names_and_reasons_run_nothing(page, report: Path, which: str):
    page.goto((report / which / "index.html").as_uri())
    assert page.get_by_text(HARMFUL, exact=True).count() == 1
    page.locator("#failures summary").click()
    assert page.get_by_text("</td><script>alert(2)</script>").is_visible()
    page.locator("#grid a").first.click()
    see(page, "#shown", re.compile("shown"))
    assert page.locator("#viewer-name").inner_text() == HARMFUL
    assert page.locator("img[src='x']").count() == 0
    page.wait_for_timeout(100)


def test_markup_that_gets_in_anyway_is_not_run(browser, report: Path):
    page = browser.new_page()
    page.goto((report / "one" / "report" / "index.html").as_uri())
    markup = "<p onclick='window.ran = 1'>x</p><img src=x onerror='window.ran = 1'>"
    page.evaluate("markup => document.body.insertAdjacentHTML('beforeend', markup)", markup)
    page.locator("body > p").click()
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran") is None
    page.close()


def test_two_folders_side_by_side(page, report: Path):
    opened(page, report / "both" / "index.html")
    assert page.locator(".pane").count() == 2
    assert (drawn(page, pane=0) == (LARGE | AWAY)).all()
    assert (drawn(page, pane=1) == LARGE).all()
    captions = page.locator("figcaption").all_inner_texts()
    assert captions[-2].startswith("one: 3 of 3 masks")
    assert captions[-1].startswith("two: 1 of 1 masks")
    point(page, 40, 45, pane=1)
    assert (drawn(page, "highlight", 1) == LARGE).all()
    assert (drawn(page, "highlight", 0) == LARGE).all(), "the same object on the other side"
    assert "mask 0, IoU 1.00" in described(page)
    point(page, 100, 45, pane=0)
    assert (drawn(page, "highlight", 0) == AWAY).all()
    assert not drawn(page, "highlight", 1).any()
    assert "not found" in described(page)
    page.locator("#alone").check()
    see(page, "#shown", "2 of 4 masks shown")
    assert (drawn(page, pane=0) == (SMALL | AWAY)).all()
    assert not drawn(page, pane=1).any()


def test_the_same_object_has_one_colour_on_both_sides(page, report: Path):
    opened(page, report / "both" / "index.html")
    colours = [
        page.locator(".masks")
        .nth(pane)
        .evaluate("c => Array.from(c.getContext('2d').getImageData(20, 45, 1, 1).data)")
        for pane in (0, 1)
    ]
    assert colours[0] == colours[1]
    assert colours[0][3] > 0


def test_zoom_keeps_what_is_under_the_pointer(page, report: Path):
    opened(page, report / "one" / "report" / "index.html")
    playwright.expect(page.locator("#fit")).to_be_hidden()
    point(page, 100, 45)
    assert f"{AWAY.sum():,} px" in described(page)
    page.mouse.wheel(0, -600)
    playwright.expect(page.locator("#fit")).to_be_visible()
    assert page.locator("#zoom-value").inner_text() == "3.3"
    point(page, 100, 45)
    assert f"{AWAY.sum():,} px" in described(page)
    point(page, 64, 45)
    assert f"{AWAY.sum():,} px" in described(page), "its 12 px to the left are 40 px now"
    point(page, 55, 45)
    assert "Point at a mask" in described(page)
    page.mouse.down()
    point(page, 105, 45)
    page.mouse.up()
    assert "selected" not in described(page), "dragging is no click"
    point(page, 100, 45)
    assert f"{AWAY.sum():,} px" not in described(page)
    page.keyboard.press("0")
    playwright.expect(page.locator("#fit")).to_be_hidden()
    point(page, 40, 45)
    assert f"{SMALL.sum():,} px" in described(page)


def test_search_order_and_timing(page, report: Path):
    page.goto((report / "one" / "report" / "index.html").as_uri())
    page.locator("#find").fill("A/")
    see(page, "#found", "1 image")
    page.locator("#find").fill("")
    page.locator("#order").select_option("many")
    playwright.expect(page.locator("#grid .name").first).to_have_text("b.png")
    page.locator("#timing summary").click()
    playwright.expect(page.locator(".histograms figcaption")).to_have_count(8)
    captions = page.locator(".histograms figcaption").all_inner_texts()
    assert captions[0].startswith("total")
    assert "median 1.75 s" in captions[0]
    assert len(captions) == 8
