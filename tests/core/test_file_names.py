"""Names as text, as numbers, and checked."""

import hashlib
import os
from pathlib import Path

import pytest

from everything.core.file_names import as_text, image_id, is_inside, printable

LATIN = os.fsdecode(b"caf\xe9.jpg")


def test_names_that_are_not_utf_8_become_valid_text() -> None:
    assert as_text("é.jpg") == "é.jpg"
    assert as_text(Path("a/b.jpg")) == "a/b.jpg"
    assert as_text(LATIN) == "caf\\xe9.jpg"
    assert as_text("half \ud800.jpg") == "half \\xed\\xa0\\x80.jpg"


def test_what_is_printed_is_one_line_of_limited_length() -> None:
    assert printable("a\nb\r\x00\x1f\x7f\x9f\u2028\u2029c") == (
        "a\\nb\\r\\x00\\x1f\\x7f\\x9f\\u2028\\u2029c"
    )
    assert printable("a b~\xa0é\u2027\u202a.jpg") == "a b~\xa0é\u2027\u202a.jpg"
    assert printable("x" * 4096) == "x" * 4096
    assert printable("x" * 4097) == "x" * 4096 + "…"
    assert printable(LATIN) == "caf\\xe9.jpg"
    assert "hunter2" not in printable("s3://me:hunter2@host/x.jpg")


def test_ids_are_the_same_everywhere_and_exact_in_doubles() -> None:
    digest = hashlib.sha256(b"a/b.jpg").hexdigest()
    assert image_id("a/b.jpg") == int(digest[:16], 16) // 2**11
    assert image_id(LATIN) != image_id("caf.jpg")
    assert image_id("half \ud800.jpg") != image_id("half .jpg")
    ids = [image_id(f"{number}.jpg") for number in range(2000)]
    assert len(set(ids)) == 2000
    assert max(ids) < 2**53
    assert max(ids) > 2**52
    assert all(int(float(one)) == one for one in ids)


@pytest.mark.parametrize("name", ["a", "a/b.jpg", "...", "a/..b", "~", "C:\\x", LATIN, " ", "a\nb"])
def test_names_inside(name: str) -> None:
    assert is_inside(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/a", "a/", "a//b", "./a", "a/./b", "../a", "a/../b", "a\0b", "\ud800"]
)
def test_names_that_lead_out_or_that_no_file_can_have(name: str) -> None:
    assert not is_inside(name)
