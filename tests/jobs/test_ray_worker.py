"""What a worker makes of a block, without a cluster around it."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from everything.config import Output, Recipe
from everything.errors import ConfigError, WeightsError
from everything.io.images.sources import Source, list_inputs
from everything.io.results.manifest_rows import Row
from everything.io.results.result_document import read_document
from everything.io.results.shards import Shard
from everything.io.results.writer import Store
from everything.io.storage.local import Folder
from everything.jobs.annotator import Annotator, Task
from everything.jobs.label import label
from everything.jobs.ray_attempts import ATTEMPTS, Attempts, take_crash_counts
from everything.jobs.ray_blocks import (
    block_of_error,
    block_of_rows,
    block_of_tasks,
    rows_in,
    tasks_in,
)
from everything.jobs.ray_worker import Worker
from tests.fakes import POISON, RECIPE, build, build_nothing, save_photo
from tests.jobs.clusters import in_one_worker


def annotator(recipe: Recipe, out: Path) -> Annotator:
    return Annotator(build(recipe), Store(out, recipe))


def worker(out: Path, recipe: Recipe = RECIPE) -> Worker:
    Folder(out).create()
    return Worker(partial(annotator, recipe, out), 1)


def tasks(folder: Path, count: int = 4) -> list[Task]:
    for number in range(count):
        save_photo(folder / f"{number}.jpg", number)
    return [Task(source) for source in list_inputs([folder])]


def do(out: Path, block: list[Task], recipe: Recipe = RECIPE) -> dict[str, Row]:
    return {row.name: row for row in rows_in(worker(out, recipe)(block_of_tasks(block)))}


def test_tasks_go_through_a_block() -> None:
    given = [Task(Source("s3://b", "a.jpg", 7, "s3://b/x.tar", 512), 2, 1), Task(Source("/a", "b"))]
    assert tasks_in(block_of_tasks(given)) == given


def test_names_that_are_not_utf_8_go_through_a_block() -> None:
    given = [Task(Source("/a", name)) for name in ("\udcff.jpg", "\ud800.jpg", "ä.jpg")]
    assert tasks_in(block_of_tasks(given)) == given
    assert tasks_in(block_of_tasks([])) == []


def test_rows_go_through_a_block_with_their_types() -> None:
    full = Row(
        "\udcff.jpg", "done", 2**53 - 1, "d", "host", 2, 1.5, 2.5, "/a", "s3://b/x.tar", 512, 64,
        48, {"read": 0.25}, {"masks": 3}, 100, 7, 8, 200, 2**60, "s.tar", None,
        ["a note", "\udcff"],
    )  # fmt: skip
    failed = Row("b", "failed", 1, "d", "host", 1, 0.0, 0.0, error="b: broken")
    block = block_of_rows([full, failed])
    assert list(rows_in(block)) == [full, failed]
    assert block.schema.field("mtime_ns").type == "int64"
    assert block.schema == block_of_error(WeightsError("x"), "host").schema


def test_a_block_is_done_and_leaves_no_note(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/bad.jpg").write_bytes(b"bad")
    rows = do(tmp_path / "out", tasks(tmp_path / "photos"))
    assert [row.status for row in rows.values()].count("done") == 4
    assert rows["bad.jpg"].status == "failed"
    assert list((tmp_path / "out" / ATTEMPTS).iterdir()) == []


def test_what_a_dead_worker_has_done_counts_and_the_rest_is_tried_alone(tmp_path: Path) -> None:
    block, out = tasks(tmp_path / "photos"), tmp_path / "out"
    save_photo(tmp_path / "photos/poison.jpg", size=(5, POISON))
    block.append(Task(Source(str(tmp_path / "photos"), "poison.jpg")))
    do(out, block[:2])
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*.json")}
    Attempts(Folder(out), block).begin()  # and then it died
    rows = do(out, block)
    assert {name: row.status for name, row in rows.items()} == {
        "0.jpg": "done", "1.jpg": "done", "2.jpg": "done", "3.jpg": "done", "poison.jpg": "failed",
    }  # fmt: skip
    assert all(path.stat().st_mtime_ns == at for path, at in written.items())
    assert (rows["0.jpg"].attempt, rows["2.jpg"].attempt, rows["poison.jpg"].attempt) == (1, 2, 3)
    assert "was killed (SIGKILL)" in str(rows["poison.jpg"].error)


def test_a_photo_is_given_up_after_three_deaths(tmp_path: Path) -> None:
    block, out = tasks(tmp_path / "photos", 3), tmp_path / "out"
    Folder(out).create()
    Attempts(Folder(out), block).begin()
    for _ in range(2):  # two more workers die with the second photo
        attempts = Attempts(Folder(out), block)
        assert attempts.begin()
        assert list(attempts.on_trial(iter(block[1:2]))) == block[1:2]
    rows = do(out, block)
    assert [rows[name].status for name in ("0.jpg", "1.jpg", "2.jpg")] == ["done", "failed", "done"]
    assert "died 3 times" in str(rows["1.jpg"].error)


def test_crashes_outlive_a_job_and_its_end_is_none(tmp_path: Path) -> None:
    block, folder = tasks(tmp_path / "photos", 2), Folder(tmp_path / "out")
    folder.create()
    assert take_crash_counts(folder) == {}
    assert not Attempts(folder, block).begin()
    assert take_crash_counts(folder) == {}  # the job was killed, and its workers with it
    Attempts(folder, block).begin()
    again = Attempts(folder, block)
    assert again.begin()  # a worker has crashed, and here is the next one
    list(again.on_trial(iter(block[:1])))
    Attempts(folder, block[:1]).begin()
    (tmp_path / "out" / ATTEMPTS / "torn.json").write_bytes(b"{")
    assert take_crash_counts(folder) == {"0.jpg": 1, "1.jpg": 1}
    assert take_crash_counts(folder) == {}


def test_jobs_that_end_in_the_middle_give_no_image_up(tmp_path: Path) -> None:
    block, out = tasks(tmp_path / "photos", 2), tmp_path / "out"
    Folder(out).create()
    for _ in range(4):  # killed, or interrupted, each time with these images at work
        assert take_crash_counts(Folder(out)) == {}
        Attempts(Folder(out), block).begin()
    assert take_crash_counts(Folder(out)) == {}
    assert [row.status for row in do(out, block).values()] == ["done", "done"]


def test_what_stops_a_worker_is_told(tmp_path: Path) -> None:
    def make() -> Annotator:
        return Annotator(build_nothing(RECIPE), Store(tmp_path, RECIPE))

    stopped = Worker(make, 1)
    with pytest.raises(WeightsError, match=r"discs\.pth"):
        list(rows_in(stopped(block_of_tasks([]))))


@pytest.mark.parametrize("form", ["parquet", "tar"])
def test_shards_of_many_photos(tmp_path: Path, form: str) -> None:
    tasks(tmp_path / "photos", 5)
    out = tmp_path / "out"
    recipe = RECIPE.model_copy(update={"output": Output(form=form)})

    def job() -> tuple[int, int]:
        console = Console(file=io.StringIO())
        summary = label(partial(list_inputs, [tmp_path / "photos"]), out, recipe, build=build,
                        preview=False, console=console, executor=in_one_worker)  # fmt: skip
        return summary.done, summary.skipped

    assert job() == (5, 0)
    shards = sorted((out / "annotations").iterdir())
    assert [path.suffix for path in shards] == [f".{form}"] * 3
    found = [document for path in shards for document in Shard(form, path.read_bytes()).values()]
    assert sorted(document["image"]["file_name"] for document in found) == [
        f"{number}.jpg" for number in range(5)
    ]
    # Annotations are those of single files.
    console = Console(file=io.StringIO())
    label(partial(list_inputs, [tmp_path / "photos"]), tmp_path / "single", RECIPE, build=build,
          preview=False, console=console)  # fmt: skip
    for document in found:
        name = document["image"]["file_name"]
        single = read_document((tmp_path / f"single/annotations/{name}.json").read_bytes())
        assert single is not None
        assert single["annotations"] == document["annotations"]
    assert job() == (0, 5)
    # Rows that a kill has lost are had again from the shards, and a lost shard is done again.
    (out / "manifest/part-00000.parquet").unlink()
    assert job() == (0, 5)
    shards[0].unlink()
    done, skipped = job()
    assert done in (1, 2)
    assert done + skipped == 5


def test_shards_need_a_cluster(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"output": Output(form="tar")})
    with pytest.raises(ConfigError, match="add --ray"):
        label(list, tmp_path, recipe, build=build)
