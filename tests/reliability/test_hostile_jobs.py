"""A job over hostile files: the program as users start it, one row for each of them."""

from __future__ import annotations

import ctypes
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console

from everything.config import Recipe
from everything.core.file_names import as_text, printable
from everything.io.images.sources import list_inputs
from everything.jobs import annotator
from everything.jobs.label import label
from everything.pipeline.pipeline import Pipeline
from tests import fakes
from tests.reliability.corpus import seeds
from tests.reliability.hostile import hostile

MARK = b"this photo crashes its decoder"


def plant(folder: Path) -> dict[str, str]:
    """Make the files; return what is expected of each, "" of a photo, by its name."""
    folder.mkdir()
    expected = {}
    for case in hostile():
        if len(case.data) < 2 * 10**6:
            (folder / case.name).write_bytes(case.data)
            expected[case.name] = case.expected
    good = ["two\nlines.jpg", "spaces and 'quotes\".jpg", "ümläut.jpg", "-rf.jpg", "a\\b.jpg"]
    good += ["<img src=x onerror=alert(1)>.jpg", "$(touch x).jpg", "%s%n.jpg", "\r\x1b[2J.jpg"]
    good += [os.fsdecode(b"not utf-8 \xff\xfe.jpg"), "CON.jpg", "C:\\x.jpg", "‮gpj.exe.jpg"]
    good += ["inner.jpg/inner.jpg", "linked.jpg"]
    (folder / "inner.jpg").mkdir()
    (folder / "linked.jpg").symlink_to(folder / "two\nlines.jpg")
    for name in good[:-1]:
        (folder / name).write_bytes(seeds()["jpeg"])
    (folder / "empty.jpg.jpg").mkdir()
    (folder / "round").symlink_to(folder)
    os.mkfifo(folder / "fifo.jpg")
    (folder / "zero.jpg").symlink_to("/dev/zero")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "nothing.jpg").symlink_to(folder / "nowhere")
    (folder / "z vanishes.jpg").write_bytes(seeds()["jpeg"])
    return expected | dict.fromkeys(good, "") | {
        "fifo.jpg": "it is not a regular file",
        "socket.jpg": "no such device or address",
        "zero.jpg": "it is not a regular file",
        "loop.jpg": "too many levels of symbolic links",
        "nothing.jpg": "no such file or directory",
        "z vanishes.jpg": "no such file or directory",
    }  # fmt: skip


@contextmanager
def socket_in(folder: Path) -> Iterator[None]:
    """A listening socket with a photo's name."""
    with socket.socket(socket.AF_UNIX) as listener:
        before = Path.cwd()
        os.chdir(folder)  # its address may have 107 bytes
        listener.bind("socket.jpg")
        os.chdir(before)
        listener.listen()
        yield


def remove_when_begun(file: Path, manifest: Path) -> None:
    while not (manifest.exists() and manifest.stat().st_size):
        time.sleep(0.01)
    file.unlink()


def test_one_row_for_each_file(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    expected = plant(photos)
    vanish = (photos / "z vanishes.jpg", out / "ledger.jsonl")
    threading.Thread(target=remove_when_begun, args=vanish, daemon=True).start()
    command = [sys.executable, "-m", "everything", "label", photos, "--out", out, "--variant"]
    command += ["nano", "--points-per-side", "2", "--no-preview", "--json"]
    with socket_in(photos):
        done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    rows = {row["name"]: row for row in pq.read_table(out / "manifest").to_pylist()}
    assert set(rows) == {as_text(name) for name in expected}
    for name, reason in expected.items():
        row = rows[as_text(name)]
        assert row["status"] == ("failed" if reason else "done"), row
        if reason:
            assert reason in row["error"]
            assert len(row["error"].splitlines()) == 1
            assert printable(name) in row["error"]
        else:
            document = json.loads((out / "annotations" / f"{name}.json").read_bytes())
            assert document["image"]["file_name"] == name
    told = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
    assert len(told) == sum(bool(reason) for reason in expected.values())
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "out"}


def crash_at_mark(recipe: Recipe) -> Pipeline:
    """Build the model in a process whose decoder dies of a marked photo as native code does."""
    decode = annotator.decode_image

    def decode_image(data: bytes, *rest: object) -> object:
        if data.endswith(MARK):
            ctypes.string_at(0)
        return decode(data, *rest)  # type: ignore[arg-type]

    annotator.decode_image = decode_image  # type: ignore[assignment]
    return fakes.build(recipe)


def test_a_decoder_that_crashes_costs_only_its_photo(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    for number in range(9):
        fakes.save_photo(photos / f"{number}.jpg", number)
    with (photos / "4.jpg").open("ab") as file:
        file.write(MARK)
    summary = label(
        partial(list_inputs, [photos], out), out, fakes.RECIPE, workers=2, preview=False,
        build=crash_at_mark, console=Console(file=io.StringIO()),
    )  # fmt: skip
    assert (summary.done, summary.failed, summary.exit_code) == (8, 1, 3)
    told = json.loads((out / "errors.jsonl").read_text())
    assert "4.jpg: its process was killed (SIGSEGV)" in told["error"]
    assert told["error"].endswith(": try it alone, or leave it out")
