from __future__ import annotations

import io
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools.coco import COCO
from rich.console import Console

from everything.config import Output, Recipe
from everything.core.file_names import as_text
from everything.core.stage_timer import COUNTS, STAGES
from everything.errors import InputError, JobError, StoreError, WeightsError
from everything.io.images.decode import Limits
from everything.io.images.sources import list_inputs
from everything.io.results.result_document import read_document
from everything.jobs.label import label
from everything.jobs.summary import Summary
from tests.fakes import POISON, RECIPE, build, build_nothing, build_watched, save_photo


def run(photos: Path, out: Path, recipe: Recipe = RECIPE, **options: object) -> Summary:
    listing = partial(list_inputs, [photos], out)
    defaults = {"build": build, "preview": False, "console": Console(file=io.StringIO())}
    return label(listing, out, recipe, **(defaults | options))


def some_photos(folder: Path, count: int = 4) -> Path:
    for number in range(count):
        save_photo(folder / f"{number % 2}/{number:03}.jpg", number)
    return folder


def results(out: Path) -> dict[str, bytes]:
    """Every result by its name, but for its timing, and whatever else is in the folder."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.is_file() and not name.startswith(("manifest/", ".lock")):
            content = path.read_bytes()
            if name.startswith("annotations/"):
                assert read_document(content), name
                content = content.split(b',"timing":')[0]
            found[name] = content
    return found


def rows(out: Path) -> list[dict[str, object]]:
    return pq.read_table(out / "manifest").to_pylist()


def errors(out: Path) -> dict[str, str]:
    lines = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
    assert len({line["name"] for line in lines}) == len(lines)
    return {line["name"]: line["error"] for line in lines}


def test_every_photo_has_a_result_and_a_row(tmp_path: Path) -> None:
    photos, out = some_photos(tmp_path / "photos"), tmp_path / "out"
    summary = run(photos, out)
    assert (summary.images, summary.done, summary.failed, summary.exit_code) == (4, 4, 0, 0)
    found = rows(out)
    assert [row["name"] for row in found] == ["0/000.jpg", "0/002.jpg", "1/001.jpg", "1/003.jpg"]
    for row in found:
        document = json.loads((out / f"annotations/{row['name']}.json").read_bytes())
        assert (document["image"]["width"], document["image"]["height"]) == (64, 48)
        assert row["masks"] == len(document["annotations"]) == document["timing"]["masks"] > 0
        assert set(document["timing"]) == {*STAGES, "total", *COUNTS}
        stages = [document["timing"][stage] for stage in STAGES]
        assert min(stages) > 0
        assert sum(stages) == pytest.approx(document["timing"]["total"], abs=1e-4)
        assert row["total_seconds"] >= document["timing"]["total"]
        assert (row["prompts"], row["decoder_calls"], row["candidates"]) == (9, 1, 27)
        assert row["folder"] == str(photos)
        assert row["started"] <= row["finished"]
    assert summary.masks == sum(row["masks"] for row in found)
    assert errors(out) == {}
    assert not (out / "ledger.jsonl").exists()


def test_results_are_read_by_pycocotools(tmp_path: Path) -> None:
    save_photo(tmp_path / "photos/a.jpg", size=(33, 57))
    run(tmp_path / "photos", tmp_path / "out")
    document = json.loads((tmp_path / "out/annotations/a.jpg.json").read_bytes())
    coco = COCO()
    image = document["image"] | {"id": document["image"]["image_id"]}
    link = {"image_id": image["id"], "category_id": 1, "iscrowd": 0}
    records = [record | link for record in document["annotations"]]
    coco.dataset = {"images": [image], "annotations": records, "categories": [{"id": 1}]}
    coco.createIndex()
    for record in records:
        mask = coco.annToMask(record)
        assert mask.shape == (33, 57)
        assert mask.sum() == record["area"]
        y, x = mask.nonzero()
        assert record["bbox"][:2] == [x.min(), y.min()]
        assert (record["crop_box"], len(record["point_coords"][0])) == ([0, 0, 57, 33], 2)


def test_a_second_run_does_nothing(tmp_path: Path) -> None:
    photos, out = some_photos(tmp_path / "photos"), tmp_path / "out"
    run(photos, out)
    before, table = results(out), rows(out)
    summary = run(photos, out)
    assert (summary.skipped, summary.done, summary.exit_code) == (4, 0, 0)
    assert results(out) == before
    assert rows(out) == table


def test_only_what_is_missing_changed_or_broken_is_done_again(tmp_path: Path) -> None:
    photos, out = some_photos(tmp_path / "photos"), tmp_path / "out"
    run(photos, out)
    before = results(out)
    (out / "annotations/0/000.jpg.json").unlink()
    broken = out / "annotations/0/002.jpg.json"
    broken.write_bytes(broken.read_bytes()[:-20])
    save_photo(photos / "1/001.jpg", 99, (20, 30))
    save_photo(photos / "new.png")
    summary = run(photos, out)
    assert (summary.skipped, summary.done) == (1, 4)
    after = results(out)
    changed = {name for name in after if after[name] != before.get(name)}
    aside = "set-aside/annotations/0/002.jpg.json"  # what was broken is kept
    assert changed == {"annotations/1/001.jpg.json", "annotations/new.png.json", aside}
    assert [row["name"] for row in rows(out)].count("1/001.jpg") == 1


def test_copied_results_count_and_get_their_rows_back(tmp_path: Path) -> None:
    photos, out = some_photos(tmp_path / "photos"), tmp_path / "out"
    run(photos, out)
    table = rows(out)
    (out / "manifest/part-00000.parquet").unlink()
    (out / "errors.jsonl").unlink()
    for path in (out / "annotations").rglob("*.json"):
        os.utime(path)
    assert run(photos, out).skipped == 4
    for new, old in zip(rows(out), table, strict=True):
        for column in ("name", "image_id", "width", "masks", "prompts", "digest", "source_bytes"):
            assert new[column] == old[column], column


def test_a_photo_that_breaks_loses_its_result(tmp_path: Path) -> None:
    photos, out = some_photos(tmp_path / "photos", 2), tmp_path / "out"
    run(photos, out)
    (photos / "0/000.jpg").write_bytes(b"gone")
    assert run(photos, out).exit_code == 3
    assert not (out / "annotations/0/000.jpg.json").exists()
    assert [(row["status"], row["attempt"]) for row in rows(out)] == [("failed", 2), ("done", 1)]
    save_photo(photos / "0/000.jpg")
    assert run(photos, out).exit_code == 0
    assert errors(out) == {}
    assert [(row["status"], row["attempt"]) for row in rows(out)] == [("done", 3), ("done", 1)]


def test_another_recipe_needs_overwrite(tmp_path: Path) -> None:
    photos, out = some_photos(tmp_path / "photos"), tmp_path / "out"
    run(photos, out)
    other = RECIPE.model_copy(update={"sampler": {"name": "grid", "points_per_side": 1}})
    with pytest.raises(StoreError, match=r"points_per_side is 3 there and 1 now"):
        run(photos, out, other)
    with pytest.raises(WeightsError):
        run(photos, out, other, overwrite=True, build=build_nothing)
    assert run(photos, out).skipped == 4  # all is still there
    summary = run(photos, out, other, overwrite=True)
    assert (summary.done, summary.skipped) == (4, 0)
    assert {row["prompts"] for row in rows(out)} == {1}


def test_label_maps(tmp_path: Path) -> None:
    photos, out = some_photos(tmp_path / "photos", 1), tmp_path / "out"
    run(photos, out, RECIPE.model_copy(update={"output": Output(label_map=True)}))
    with Image.open(out / "label_maps/0/000.jpg.png") as image:
        labels = np.array(image)
    document = json.loads((out / "annotations/0/000.jpg.json").read_bytes())
    assert labels.shape == (48, 64)
    assert 0 < labels.max() <= len(document["annotations"])


def bad_photos(folder: Path) -> dict[str, str]:
    """Files that cannot be done, each with what must be said of it."""
    good = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(good, "JPEG")
    content = good.getvalue()
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (folder / "text.png").write_bytes(b"not a photo")
    (folder / "header.jpg").write_bytes(content[:3])
    (folder / "two\nlines.jpg").write_bytes(b"")
    (folder / os.fsdecode(b"\xff.jpg")).write_bytes(b"")
    Image.new("1", (5000, 3000)).save(folder / "huge.png")
    os.mkfifo(folder / "fifo.jpg")
    (folder / "dangling.jpg").symlink_to(folder / "nowhere")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "zero.jpg").symlink_to("/dev/zero")
    save_photo(folder / "unlucky.jpg", size=(5, POISON + 1))
    save_photo(folder / ("long" * 62 + ".jpg"))
    return {
        "empty.jpg": "the file is empty",
        "truncated.jpg": "cannot be decoded",
        "text.png": "not an image in a known format",
        "header.jpg": "not an image in a known format",
        "two\nlines.jpg": r"two\nlines.jpg: the file is empty",
        os.fsdecode(b"\xff.jpg"): r"\xff.jpg: the file is empty",
        "huge.png": "5000 x 3000 px are over the limit of 10,000,000 px",
        "fifo.jpg": "not a regular file",
        "dangling.jpg": "no such file or directory",
        "loop.jpg": "too many levels of symbolic links",
        "zero.jpg": "not a regular file",
        "unlucky.jpg": "RuntimeError: out of luck",
        "long" * 62 + ".jpg": "file name too long",
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_photos_have_rows_and_stop_nothing(tmp_path: Path, workers: int) -> None:
    photos, out = some_photos(tmp_path / "photos"), tmp_path / "out"
    expected = bad_photos(photos)
    limits = Limits(max_pixels=10_000_000)
    summary = run(photos, out, workers=workers, limits=limits)
    assert (summary.done, summary.failed, summary.exit_code) == (4, len(expected), 3)
    said = errors(out)
    for name, reason in expected.items():
        message = said.pop(as_text(name))
        assert reason in message
        assert "\n" not in message
    assert said == {}
    assert sum(row["status"] == "failed" for row in rows(out)) == len(expected)
    assert len(list((out / "annotations").rglob("*.json"))) == 4


def test_a_photo_that_vanishes_is_a_row(tmp_path: Path) -> None:
    photos, out = some_photos(tmp_path / "photos"), tmp_path / "out"
    listed = list(list_inputs([photos]))
    (photos / "1/001.jpg").unlink()
    summary = label(lambda: listed, out, RECIPE, build=build, preview=False)
    assert (summary.done, summary.failed) == (3, 1)
    assert "1/001.jpg: no such file or directory" in errors(out)["1/001.jpg"]


def test_no_photos_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match="no images"):
        run(tmp_path / "photos", tmp_path / "out")


def test_results_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    photos = some_photos(tmp_path / "photos", 9)
    for workers in (1, 2, 3):
        assert run(photos, tmp_path / f"{workers}", workers=workers).done == 9
    assert results(tmp_path / "1") == results(tmp_path / "2") == results(tmp_path / "3")


def test_a_photo_that_kills_its_worker_costs_only_itself(tmp_path: Path) -> None:
    photos, out = some_photos(tmp_path / "photos", 6), tmp_path / "out"
    save_photo(photos / "0/poison.jpg", size=(5, POISON))
    save_photo(photos / "1/poison.png", size=(9, POISON))
    summary = run(photos, out, workers=2)
    assert (summary.done, summary.failed, summary.exit_code) == (6, 2, 3)
    assert set(errors(out)) == {"0/poison.jpg", "1/poison.png"}
    assert all("was killed (SIGKILL)" in error for error in errors(out).values())
    attempts = {row["name"]: row["attempt"] for row in rows(out)}
    assert attempts["0/poison.jpg"] == attempts["1/poison.png"] == 3
    assert len(attempts) == 8


def test_workers_that_cannot_load_the_model_end_the_job(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"discs\.pth: not found"):
        run(some_photos(tmp_path / "photos"), tmp_path / "out", workers=2, build=build_nothing)


def die(recipe: Recipe) -> None:
    os._exit(9)


def test_workers_that_die_while_loading_end_the_job(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="ended with code 9 while it loaded the model"):
        run(some_photos(tmp_path / "photos"), tmp_path / "out", workers=2, build=die)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_that_goes_away_ends_the_job(tmp_path: Path, workers: int) -> None:
    photos, out = some_photos(tmp_path / "photos", 40), tmp_path / "out"

    def move() -> None:
        while len(list(out.rglob("annotations/**/*.json"))) < 5:
            time.sleep(0.005)
        out.rename(tmp_path / "elsewhere")

    mover = threading.Thread(target=move)
    mover.start()
    with pytest.raises(StoreError, match="the folder is gone"):
        run(photos, out, SLOW, workers=workers)
    mover.join()
    (tmp_path / "elsewhere").rename(out)
    assert run(photos, out, SLOW).exit_code == 0
    assert len(rows(out)) == 40


# --- killed from outside -----------------------------------------------------------------------

SLOW = RECIPE.model_copy(update={"version": "seconds_0.02"})
_jobs = multiprocessing.get_context("forkserver")  # torch is imported once for all of them


def job(photos: Path, out: Path, workers: int) -> None:
    # What runs the tests may ignore Ctrl-C, as a shell's background job does; a terminal does not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    listing = partial(list_inputs, [photos])
    summary = label(listing, out, SLOW, workers=workers, build=build, preview=False)
    sys.exit(summary.exit_code)


@contextmanager
def started(photos: Path, out: Path, workers: int, results: int) -> Iterator[ForkServerProcess]:
    """A job in a process of its own, once so many results are there."""
    process = _jobs.Process(target=job, args=[photos, out, workers])
    process.start()
    try:
        deadline = time.monotonic() + 120
        while len(list(out.rglob("annotations/**/*.json"))) < results and process.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        yield process
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_jobs_continue_and_end_as_if_undisturbed(tmp_path: Path, workers: int) -> None:
    photos = some_photos(tmp_path / "photos", 30)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    run(photos, undisturbed, SLOW)
    # Each job with worker processes, as all are after the first kill, imports torch once more.
    for goal in (1, 9, 18) if workers == 1 else (4, 18):
        with started(photos, out, workers, goal) as process:
            time.sleep(random.Random(goal).random() / 20)
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
        time.sleep(0.5)  # in which workers end with their parent
        written = {path: path.read_bytes() for path in (out / "annotations").rglob("*.json")}
        assert all(read_document(content) for content in written.values())
        time.sleep(0.2)
        assert written.keys() == set((out / "annotations").rglob("*.json"))
        with (out / "ledger.jsonl").open("ab") as manifest:
            manifest.write(b'{"name": "0/0')  # as if the kill had cut a line
    summary = run(photos, out, SLOW)
    assert summary.done >= 1
    assert summary.skipped >= 18
    assert summary.exit_code == 3
    for tree in (undisturbed, out):  # a retry is counted, whatever the number of kills
        (tree / "errors.jsonl").write_text(json.dumps(errors(tree)))
    assert results(out) == results(undisturbed)
    names = [row["name"] for row in rows(out)]
    assert len(names) == len(set(names)) == 31
    assert list((out / ".partial").iterdir()) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_ends_in_good_order(tmp_path: Path, workers: int) -> None:
    photos, out = some_photos(tmp_path / "photos", 60), tmp_path / "out"
    with started(photos, out, workers, 5) as process:
        os.kill(process.pid or 0, signal.SIGINT)
        process.join(60)
        assert process.exitcode == 130
    done = len(list((out / "annotations").rglob("*.json")))
    assert 5 <= done < 60
    assert abs(len(rows(out)) - done) <= 2 * workers
    assert not (out / "ledger.jsonl").exists()
    summary = run(photos, out, SLOW)
    assert summary.skipped >= done
    assert len(rows(out)) == 60


def test_memory_does_not_grow(tmp_path: Path) -> None:
    """Resident memory after 120 photos is what it is after 30."""
    save_photo(tmp_path / "a.jpg", size=(300, 400))
    sizes = []

    (tmp_path / "photos").mkdir()
    for number in range(120):
        (tmp_path / f"photos/{number}.jpg").symlink_to(tmp_path / "a.jpg")

    def measure(number: int) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        sizes.append(pages * os.sysconf("SC_PAGESIZE"))

    few = RECIPE.model_copy(update={"sampler": {"name": "grid", "points_per_side": 1}})
    measured = build_watched(measure)
    assert run(tmp_path / "photos", tmp_path / "out", few, build=measured).done == 120
    assert max(sizes[110:]) - max(sizes[30:40]) < 8 * 2**20


def test_progress_on_a_terminal_and_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = some_photos(tmp_path / "photos")
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    summary = run(photos, tmp_path / "1", console=terminal)
    assert "4/4" in terminal.file.getvalue()
    assert "images/s" in terminal.file.getvalue()
    text = Console(file=io.StringIO(), width=120)
    summary.print_to(text)
    assert "seconds per image" in text.file.getvalue()
    assert summary.as_dict()["stage_seconds"]["total"]["median"] > 0
    json.dumps(summary.as_dict())
    monkeypatch.setattr("everything.jobs.progress._EVERY", 0.0)
    from everything.jobs.progress import log_to

    plain = Console(file=io.StringIO())
    log_to(plain)
    run(photos, tmp_path / "2", console=plain)
    assert "4/4 images" in plain.file.getvalue()
