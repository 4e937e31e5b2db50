"""What may follow the members of a tar: all of them are read, and what is wrong is said."""

from __future__ import annotations

import io
import logging
import os
import tarfile
from pathlib import Path

import pytest

from everything.errors import ImageError
from everything.io.images import tar_end
from everything.io.images.archives import BROKEN
from everything.io.images.decode import Limits
from everything.io.images.fetch import read_source
from everything.io.images.listing import list_images
from everything.jobs.import_labels import import_labels
from tests.jobs.test_import_labels import members

BLOCK = bytes(tarfile.BLOCKSIZE)
JUNK = b"<html>" + os.urandom(3 * tarfile.BLOCKSIZE)
NOTES = {
    "whole": (BLOCK * 2, ""),
    "many zeros": (BLOCK * 40 + bytes(17), ""),
    "one block": (BLOCK, "one block of zeros"),
    "junk behind the end": (BLOCK * 2 + JUNK, "junk"),
    "junk behind one block": (BLOCK + JUNK, "junk"),
    "a little junk": (BLOCK * 2 + b"junk", "junk"),
    "junk at once": (JUNK, "junk"),
}
ERRORS = {
    "nothing": (b"", "cut off"),
    "a part of a header": (b"sa_3.json" + bytes(90), "cut off"),
    "a header that is damaged": (JUNK + BLOCK * 2, "damaged"),
}


def tar(first: int, count: int) -> bytes:
    """An archive of so many images without its end."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in list(members(first + count).items())[2 * first :]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        end = archive.offset
    return buffer.getvalue()[:end]


@pytest.mark.parametrize("case", NOTES)
def test_all_members_are_read_with_a_note(
    tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    tail, note = NOTES[case]
    (tmp_path / "x.tar").write_bytes(tar(0, 2) + tail)
    with caplog.at_level(logging.WARNING):
        found = list(list_images([tmp_path / "x.tar"]))
    assert [source.name for source in found] == ["x.tar/sa_1.jpg", "x.tar/sa_2.jpg"]
    assert (note in caplog.text) if note else not caplog.text
    done = import_labels([tmp_path / "x.tar"], tmp_path / "out", tmp_path / "photos")
    assert (done.photos, done.unpacked, done.failed) == (2, 2, 0)
    assert [note in what for what in done.tally.mended] == [True] * bool(note)


@pytest.mark.parametrize("case", ERRORS)
def test_members_that_may_be_missing_are_an_error(tmp_path: Path, case: str) -> None:
    tail, reason = ERRORS[case]
    (tmp_path / "x.tar").write_bytes(tar(0, 2) + tail)
    *images, archive = list_images([tmp_path / "x.tar"])
    assert [source.name for source in images] == ["x.tar/sa_1.jpg", "x.tar/sa_2.jpg"]
    with pytest.raises(ImageError, match=BROKEN):
        read_source(archive, Limits())
    done = import_labels([tmp_path / "x.tar"], tmp_path / "out", tmp_path / "photos")
    assert (done.photos, done.failed) == (2, 1)
    assert reason in done.failures[0]


@pytest.mark.parametrize("between", [b"", BLOCK * 2, BLOCK + JUNK[: len(BLOCK)]])
def test_archives_one_after_the_other(tmp_path: Path, between: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(tar(0, 1) + between + tar(1, 2) + BLOCK * 2)
    assert len(list(list_images([tmp_path / "x.tar"]))) == 3
    done = import_labels([tmp_path / "x.tar"], tmp_path / "out")
    assert (done.photos, done.failed) == (3, 0)


def test_damage_between_members_costs_its_member_alone(tmp_path: Path) -> None:
    one, two = tar(0, 1), tar(1, 1)
    damaged = bytearray(two)
    damaged[3] ^= 1
    (tmp_path / "x.tar").write_bytes(one + damaged + tar(2, 1) + BLOCK * 2)
    done = import_labels([tmp_path / "x.tar"], tmp_path / "out")
    assert (done.photos, done.failed) == (3, 1)  # the damaged header was of an image
    assert "damaged" in done.failures[0]


def test_what_is_no_tar_is_not_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no.tar").write_bytes(b"no archive" * 100 + tar(0, 1))
    (found,) = list_images([tmp_path / "no.tar"])
    assert found.name == "no.tar"
    monkeypatch.setattr(tar_end, "_MOST", 30)
    (tmp_path / "x.tar").write_bytes(tar(0, 1) + BLOCK * 2 + JUNK * 10 + tar(1, 1) + BLOCK * 2)
    assert len(list(list_images([tmp_path / "x.tar"]))) == 1
