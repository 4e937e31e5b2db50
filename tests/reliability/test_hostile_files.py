"""Damaged and hostile photos: each is an error in one line, is noted, or changes nothing."""

from __future__ import annotations

import io
import resource
import time
from collections import Counter

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from everything.errors import ImageError
from everything.io.images.decode import Limits, decode_image
from tests.photos import photo
from tests.reliability.corpus import LIMITS, damaged, outcome, saved, seeds
from tests.reliability.hostile import Hostile, hostile

# All of it has checksums, or the pixels have and not the header.
CHECKED = {"png", "png-palette", "png-16", "apng"}
PARTLY = {"tiff-deflate", "tiff-tiled-deflate"}


def test_damage_is_never_a_crash_and_cuts_are_never_silent() -> None:
    counts: dict[tuple[str, str], Counter[str]] = {}
    silent, slowest = [], 0.0
    for case in damaged(flips=300):
        start = time.process_time()
        found = outcome(case)
        slowest = max(slowest, time.process_time() - start)
        counts.setdefault((case.seed, case.kind), Counter())[found] += 1
        if found == "silent" and (case.kind == "cut" or case.seed in CHECKED):
            silent.append(f"{case.seed}: {case.kind} {case.damage}")
    assert sum(of.total() for of in counts.values()) > 11_000
    assert silent == []
    assert {what for of in counts.values() for what in of} == {"error", "noted", "same", "silent"}
    assert all(counts[seed, kind]["silent"] < 5 for seed in PARTLY for kind in ("bit", "hole"))
    # JPEGs have no checksum, but what libjpeg had to fill in is told.
    for seed in ("jpeg", "jpeg-progressive", "jpeg-grey", "jpeg-cmyk"):
        assert counts[seed, "hole"]["noted"] > 3
        assert counts[seed, "cut"]["noted"] > 5
    assert slowest < 1


@pytest.mark.parametrize("case", hostile(), ids=lambda case: case.name)
def test_hostile_files_cost_nothing_and_have_a_reason(case: Hostile) -> None:
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if case.expected:
        with pytest.raises(ImageError) as caught:
            decode_image(case.data, case.name, Limits())
        message = str(caught.value)
        assert case.expected in message
        assert len(message.splitlines()) == 1
        assert message.startswith(f"{case.name}: ")
        assert message.count(": ") >= 2
    else:
        assert decode_image(case.data, case.name, Limits()).pixels.any(axis=(0, 1)).shape == (3,)
    assert time.process_time() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # kB


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_pixels_of_jpegs_are_pillow_s(mode: str, subsampling: str, progressive: bool) -> None:
    for name, side in (("coffee", 320), ("coins", 97), ("rocket", 17), ("moon", 1)):
        image = Image.fromarray(photo(name, side)).convert(mode)
        options = {} if mode == "L" else {"subsampling": subsampling}
        data = saved(image, "JPEG", progressive=progressive, **options)
        expected = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
        found = decode_image(data, "photo", LIMITS)
        assert np.array_equal(found.pixels, expected)
        assert found.notes == ()


def test_what_turbojpeg_does_not_know_is_read_all_the_same() -> None:
    image = Image.fromarray(photo("coffee", 96))
    data = bytearray(saved(image, "JPEG", subsampling="4:4:4"))
    frame = data.index(b"\xff\xc0")
    data[frame + 11] = 0x31  # three times as many columns of brightness as of colour
    with pytest.raises(ValueError, match="subsampling"):
        simplejpeg.decode_jpeg(bytes(data))
    assert outcome_of(bytes(data)) == (64, 96)


def outcome_of(data: bytes) -> tuple[int, int]:
    found = decode_image(data, "photo", LIMITS)
    return found.height, found.width


def test_a_note_says_what_was_guessed() -> None:
    data = seeds()["jpeg"]
    found = decode_image(data[: len(data) // 2] + b"\xff\xd9", "photo", LIMITS)
    assert found.notes == (
        "damaged, parts of it may be wrong (Corrupt JPEG data: premature end of data segment)",
    )
