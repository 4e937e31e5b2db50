"""The report in a browser: what tests of the page do and see."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np

from tests.labelled import disc

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

SIZE = (90, 120)
LARGE, SMALL, AWAY = disc(SIZE, (40, 45), 30), disc(SIZE, (40, 45), 10), disc(SIZE, (100, 45), 12)
HARMFUL = "<img src=x onerror=alert(1)>.png"


def opened(page, file: Path, name: str = "b.png", level: str = "all"):
    page.goto(file.as_uri())
    page.locator("#grid a").filter(has=page.get_by_text(name, exact=True)).click()
    see(page, "#shown", re.compile("shown"))
    page.locator(f"input[name=level][value={level}]").check()
    page.wait_for_timeout(60)


def see(page, selector: str, text: str | re.Pattern[str]):
    """Wait until an element has this text; nothing is evaluated as code, which the page forbids."""
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_have_text(text)


def point(page, x: float, y: float, pane: int = 0, click: bool = False):
    """Move to a pixel of the photo, or click there."""
    stage = page.locator(".stage").nth(pane).bounding_box()
    scale = min(stage["width"] / SIZE[1], stage["height"] / SIZE[0])
    left = stage["x"] + (stage["width"] - SIZE[1] * scale) / 2
    to = left + (x + 0.5) * scale, stage["y"] + (y + 0.5) * scale
    (page.mouse.click if click else page.mouse.move)(*to)


def drawn(page, layer: str = "masks", pane: int = 0) -> np.ndarray:
    """Where a canvas is not transparent, bool (H, W)."""
    alpha = (
        page.locator(f".{layer}")
        .nth(pane)
        .evaluate(
            "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
            ".filter((_, i) => i % 4 === 3)"
        )
    )
    return np.array(alpha).reshape(SIZE) > 0


def described(page) -> str:
    return page.locator("#mask").inner_text()


def move(page, slider: str, value: int):
    page.locator(f"#{slider}").fill(str(value))
    page.wait_for_timeout(60)
