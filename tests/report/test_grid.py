"""The thumbnails of the report in a browser: what is listed, and thousands of them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from everything.report.build import write_report
from tests.labelled import disc, write_labels
from tests.report.in_browser import AWAY, CHROMIUM, LARGE, see

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
MANY = 5000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of MANY images, which are twelve ones again and again."""
    home = tmp_path_factory.mktemp("many")
    sizes = [(24, 32), (32, 24), (20, 48)]
    masks = {f"{n:02d}.png": [disc(sizes[n % 3], (10, 10), n)] for n in range(1, 13)}
    page = write_report(write_labels(home / "labels", home / "photos", masks))
    text = re.search(r'(?<=id="index">).*?(?=</script>)', page.read_text(), re.DOTALL)
    assert text
    index, home = json.loads(text[0]), page.parent
    some = index["photos"]
    index["photos"] = [some[n % 12] | {"name": f"{n:04d}.png"} for n in range(MANY)]
    page.write_text(page.read_text().replace(text[0], json.dumps(index)))
    for n in range(12, MANY):
        for name in ("thumbs/N.jpg", "thumbs/N.all.jpg", "photos/N.jpg"):
            of, to = (home / name.replace("N", f"{number:06d}") for number in (n % 12, n))
            os.link(of, to)
    for n in (MANY - 2, MANY - 1):  # which are opened
        script = (home / f"data/{n % 12:06d}.js").read_text()
        (home / f"data/{n:06d}.js").write_text(script.replace(f"({n % 12},", f"({n},"))
    return page


def test_thousands_of_images_scroll_without_stutter(page, many: Path):
    """Screens at the end cost what those at the start do, a jump there less than ten of them."""
    tools = page.context.new_cdp_session(page)
    tools.send("Performance.enable", {"timeDomain": "threadTicks"})
    costs = []
    for _ in range(2):
        page.goto(many.as_uri())
        first = scrolled(page, tools, 5)
        before = spent(tools)
        page.keyboard.press("End")
        playwright.expect(page.locator("#grid a").last).to_be_in_viewport()
        jump = spent(tools) - before
        assert page.locator("#grid .name").last.inner_text() == f"{MANY - 1:04d}.png"
        costs.append((first, jump, scrolled(page, tools, 300)))
        assert page.locator("#grid a").count() < 120
    first, jump, last = (min(each) for each in zip(*costs, strict=True))
    assert last < 1.4 * first
    assert jump < first


def scrolled(page, tools, start: int, screens: int = 10) -> float:
    """Seconds of the page's own thread for so many screens of images, scrolled through.

    Not wall time, which would measure the machine's other work.
    """
    before = spent(tools)
    page.evaluate(
        """async ([start, screens]) => {
            for (let screen = start; screen < start + screens; screen++) {
                scrollTo(0, screen * innerHeight);
                await new Promise(requestAnimationFrame);
            }
        }""",
        [start, screens],
    )
    return spent(tools) - before


def spent(tools) -> float:
    metrics = tools.send("Performance.getMetrics")["metrics"]
    return next(metric["value"] for metric in metrics if metric["name"] == "ThreadTime")


def place_of(page, name: str) -> dict[str, float]:
    return page.locator("#grid a").filter(has_text=name).bounding_box()


def test_arrows_go_on_beyond_what_is_in_the_page(page, many: Path):
    page.goto(many.as_uri())
    page.locator("#grid a").first.focus()
    page.keyboard.press("ArrowRight")
    focused = page.locator("#grid a:focus .name")
    playwright.expect(focused).to_have_text("0001.png")
    start = place_of(page, "0001.png")
    for _ in range(40):
        page.keyboard.press("ArrowDown")
    playwright.expect(focused).to_be_in_viewport()
    number = int(focused.inner_text()[:4])
    assert number > 100
    box = page.locator("#grid a:focus").bounding_box()
    assert abs(box["x"] - start["x"]) < 300, "below where it began"
    for _ in range(40):
        page.keyboard.press("ArrowUp")
    assert int(focused.inner_text()[:4]) < 5
    page.keyboard.press("End")
    playwright.expect(page.locator("#grid .name").last).to_have_text(f"{MANY - 1:04d}.png")
    page.keyboard.press("ArrowRight")  # the focus has stayed where it was
    playwright.expect(focused).to_be_in_viewport()


def test_a_page_of_another_width_shows_the_same_images(page, many: Path):
    page.goto(many.as_uri())
    page.mouse.wheel(0, 30_000)
    seen = page.locator("#grid a:visible").all()
    name = next(
        link.locator(".name").inner_text() for link in seen if link.bounding_box()["y"] > 60
    )
    page.set_viewport_size({"width": 700, "height": 800})
    page.wait_for_timeout(400)
    assert -300 < place_of(page, name)["y"] < 800


def test_an_image_is_closed_where_it_was_opened(page, many: Path):
    page.goto(many.as_uri())
    page.keyboard.press("End")
    link = page.locator("#grid a").filter(has_text=f"{MANY - 1:04d}.png")
    link.click()
    see(page, "#place", f"{MANY:,} of {MANY:,}")
    page.keyboard.press("ArrowLeft")
    see(page, "#viewer-name", f"{MANY - 2:04d}.png")
    page.keyboard.press("Escape")
    playwright.expect(page.locator("#grid a:focus .name")).to_have_text(f"{MANY - 2:04d}.png")
    playwright.expect(link).to_be_in_viewport()


def test_what_is_listed_is_in_the_address(page, report: Path):
    address = (report / "one" / "report" / "index.html").as_uri()
    page.goto(address)
    page.locator("#find").fill("b.png")
    page.locator("#order").select_option("most masks")
    listed = "find=b.png&order=many"
    playwright.expect(page).to_have_url(f"{address}#?{listed}")
    page.locator("#grid a").first.click()
    playwright.expect(page).to_have_url(f"{address}#2?{listed}")
    page.locator("input[name=level][value=all]").check()
    playwright.expect(page).to_have_url(f"{address}#2?{listed}&level=all")
    page.locator("#close").click()
    playwright.expect(page).to_have_url(f"{address}#?{listed}")
    page.go_back()
    see(page, "#shown", "3 of 3 masks shown")
    page.goto("about:blank")
    page.goto(f"{address}#?{listed}")
    see(page, "#found", "2 images")
    playwright.expect(page.locator("#grid .name").first).to_have_text("b.png")
    assert page.locator("#order").input_value() == "many"
    page.goto(f"{address}#?only=failed&with-class=%3Dgone")
    see(page, "#found", "0 images, 1 without a result")
    assert page.locator("#find").input_value() == ""


def test_annotations_that_cannot_be_read_are_said_to_be(page, tmp_path: Path):
    masks = {"a.png": [LARGE], "b.png": [AWAY]}
    labels = write_labels(tmp_path / "labels", tmp_path / "photos", masks)
    (labels / "annotations/b.png.json").write_text("{}")
    page.goto(write_report(labels).as_uri())
    tile = page.locator("#grid .tile").last
    playwright.expect(tile.locator(".count")).to_have_text("annotations cannot be read")
    assert "not an annotation file" in tile.locator(".count").get_attribute("title")
    tile.locator("a").click()
    see(page, "#shown", "0 of 0 masks shown")
    playwright.expect(
        page.get_by_text("not an annotation file").locator("visible=true")
    ).to_have_count(1)
