"""The report in a browser: fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from everything.report.build import write_report
from tests.labelled import write_labels
from tests.report.in_browser import AWAY, CHROMIUM, HARMFUL, LARGE, SMALL


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("report")
    masks = {"b.png": [LARGE, SMALL, AWAY], "a/b.png": [AWAY], HARMFUL: [LARGE, SMALL]}
    failures = {"broken.jpg": "</td><script>alert(2)</script>"}
    one = write_labels(home / "one", home / "photos", masks, failures=failures)
    two = write_labels(home / "two", home / "photos", {"b.png": [LARGE]}, sampler="other")
    write_report(one)
    return write_report([one, two], home / "both").parent.parent


@pytest.fixture
def page(browser) -> Iterator:
    """A page on which any error, message box or wish for another machine fails the test."""
    page = browser.new_page(viewport={"width": 1300, "height": 800})
    bad: list[str] = []
    page.on("pageerror", lambda error: bad.append(str(error)))
    page.on(
        "console", lambda message: bad.append(message.text) if message.type == "error" else None
    )
    page.on("dialog", lambda dialog: (bad.append(dialog.message), dialog.dismiss()))
    page.on(
        "request", lambda r: None if r.url.startswith(("file:", "data:")) else bad.append(r.url)
    )
    yield page
    page.close()
    assert bad == []
