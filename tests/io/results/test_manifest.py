"""Rows of the manifest: what is kept, in which file, and how much each answer holds."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.parquet as pq
import pytest

from everything.core.stage_timer import COUNTS, STAGES
from everything.io.results import manifest as module
from everything.io.results.manifest import Manifest, is_part
from everything.io.results.manifest_rows import Row
from everything.io.results.prior_results import PriorResult
from everything.io.storage.hashed_index import hashed
from everything.io.storage.local import Folder
from everything.io.storage.locations import Url
from everything.io.storage.object_store import ObjectStore
from everything.io.storage.storage import Stamp


def row(name: str = "a.jpg", **more: Any) -> Row:
    about = {"status": "done", "image_id": 1, "digest": "d", "host": "here", "attempt": 1}
    return Row(name=name, **about | {"started": 1.5, "finished": 2.25} | more)  # type: ignore[arg-type]


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    Folder(tmp_path).create()
    return Manifest(Folder(tmp_path))


def test_every_field_of_a_row_comes_back(manifest: Manifest, tmp_path: Path) -> None:
    seconds = {name: 0.5 + n for n, name in enumerate((*STAGES, "total"))}
    counts = {name: 7 + n for n, name in enumerate(COUNTS)}
    image = {"folder": "/photos", "file": "b.tar", "start": 512, "width": 40, "height": 30}
    source = {"source_bytes": 11, "source_mtime_ns": 12, "source_hash": -13}
    result = {"bytes": 14, "mtime_ns": 15, "shard": "annotations/x.tar", "notes": ["n"]}
    manifest.append(row(seconds=seconds, counts=counts, **image, **source, **result))
    for _ in range(2):
        (found,) = Manifest(Folder(tmp_path)).table().to_pylist()
        for name, value in (image | source | result | counts).items():
            assert found[name] == value
        for name, value in seconds.items():
            assert found[f"{name}_seconds"] == value
        assert (found["name"], found["status"], found["digest"]) == ("a.jpg", "done", "d")
        assert (found["started"].timestamp(), found["finished"].timestamp()) == (1.5, 2.25)
        assert (found["host"], found["attempt"], found["image_id"]) == ("here", 1, 1)
        (place,) = manifest.places().to_pylist()
        assert place == {"name": "a.jpg", "folder": "/photos", "file": "b.tar", "start": 512}
        prior = PriorResult(True, 1, 11, Stamp(14, 15), "annotations/x.tar", 12, -13)
        known = manifest.known("d")
        assert (known.get("a.jpg"), known.done, len(known)) == (prior, 1, 1)
        assert known.shards == {"annotations/x.tar": 0}
        Manifest(Folder(tmp_path)).compact()


def test_what_a_row_does_not_have_is_none(manifest: Manifest) -> None:
    manifest.append(row("none"), row("zero", source_bytes=0, bytes=0, mtime_ns=0, source_hash=0,
                                     source_mtime_ns=0))  # fmt: skip
    known = manifest.known("d")
    assert known.get("none") == PriorResult(True, 1, None, None, None, None, None)
    assert known.get("zero") == PriorResult(True, 1, 0, Stamp(0, 0), None, 0, 0)
    assert known.get("other") is None
    assert known.count(hashed(["none", "zero", "other"])) == 2


def test_only_results_of_the_recipe_are_done(manifest: Manifest) -> None:
    failed = row("c", bytes=1, mtime_ns=2, shard="s")
    failed.fail("broken")
    assert (failed.status, failed.error) == ("failed", "broken")
    assert (failed.bytes, failed.mtime_ns, failed.shard) == (None, None, None)
    manifest.append(row("a"), row("b", digest="other"), failed)
    for digest, done in (("d", {"a"}), ("other", {"b"}), (None, {"a", "b"}), ("", set())):
        known = manifest.known(digest)
        found = {name for name in "abc" if (prior := known.get(name)) and prior.done}
        assert (found, known.done, len(known)) == (done, len(done), 3)


def test_failures_have_lines_of_their_own(manifest: Manifest, tmp_path: Path) -> None:
    failed = row("b", attempt=2)
    failed.fail("broken")
    manifest.append(row("a"))
    assert not (tmp_path / "errors.jsonl").exists()
    manifest.append(failed, row("c"))
    line = {"name": "b", "error": "broken", "attempt": 2}
    assert json.loads((tmp_path / "errors.jsonl").read_text()) == line
    manifest.append(row("b", attempt=3))
    manifest.compact()
    assert (tmp_path / "errors.jsonl").read_bytes() == b""
    assert not (tmp_path / "ledger.jsonl").exists()


def test_nothing_is_written_again_if_nothing_is_new(manifest: Manifest, tmp_path: Path) -> None:
    manifest.append(row())
    manifest.compact()
    part = tmp_path / "manifest/part-00000.parquet"
    before = part.stat().st_ino
    manifest.compact()
    assert part.stat().st_ino == before
    (tmp_path / "errors.jsonl").unlink()  # as a kill leaves it
    manifest.compact()
    assert part.stat().st_ino != before
    assert (tmp_path / "errors.jsonl").exists()


def test_tables_of_others_are_neither_read_nor_deleted(manifest: Manifest, tmp_path: Path) -> None:
    manifest.append(row())
    manifest.compact()
    (tmp_path / "manifest/mine.parquet").write_bytes(b"mine")
    manifest.append(row("b"))
    manifest.compact()
    assert manifest.table()["name"].to_pylist() == ["a.jpg", "b"]
    assert (tmp_path / "manifest/mine.parquet").read_bytes() == b"mine"


def test_names_of_parts() -> None:
    digits = f"{7:020}-0123abcd"
    for name in ("00000", digits):
        assert is_part(f"manifest/part-{name}.parquet")
    for name in ("00001", "0", digits[1:], f"{digits}0", digits.upper(), digits.replace("a", "g")):
        assert not is_part(f"manifest/part-{name}.parquet")
    assert not is_part("part-00000.parquet")


def test_many_rows_are_read_in_batches(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "_BATCH", 4)
    manifest.append(*(row(f"{n:02}", attempt=n + 1, shard=f"s{n % 3}") for n in range(11)))
    manifest.append(row("05", attempt=99))
    for _ in range(2):
        known = manifest.known("d")
        assert [known.get(f"{n:02}").attempt for n in range(11)] == [  # type: ignore[union-attr]
            *range(1, 6), 99, *range(7, 12),
        ]  # fmt: skip
        assert [known.get(f"{n:02}").shard for n in (0, 1, 2, 5)] == [  # type: ignore[union-attr]
            "s0", "s1", "s2", None,
        ]  # fmt: skip
        manifest.compact()


def test_a_row_of_wrong_types_costs_only_itself(manifest: Manifest, tmp_path: Path) -> None:
    rows = [row(f"{n}", width="wide" if n in (0, 3, 4) else 5) for n in range(7)]
    manifest.append(*rows)
    manifest.append(row("huge", source_bytes=2**70))
    assert manifest.table()["name"].to_pylist() == ["1", "2", "5", "6"]


def test_after_damage_was_set_aside_nothing_is_written_again(
    manifest: Manifest, tmp_path: Path
) -> None:
    manifest.append(row())
    manifest.compact()
    part = tmp_path / "manifest/part-00000.parquet"
    part.write_bytes(b"damaged")
    manifest.append(row("b"))
    manifest.compact()
    assert [path.read_bytes() for path in (tmp_path / "set-aside").rglob("part*")] == [b"damaged"]
    assert manifest.table()["name"].to_pylist() == ["b"]
    before = part.stat().st_ino
    manifest.compact()
    assert part.stat().st_ino == before


def test_damage_that_is_mended_meanwhile_is_not_set_aside(
    manifest: Manifest, tmp_path: Path
) -> None:
    manifest.append(row())
    manifest.compact()
    part = tmp_path / "manifest/part-00000.parquet"
    whole = part.read_bytes()
    part.write_bytes(b"damaged")
    assert manifest.table().num_rows == 0
    part.write_bytes(whole)
    manifest.compact()
    assert manifest.table().num_rows == 1
    assert not (tmp_path / "set-aside").exists()


def test_objects_are_written_after_five_seconds_and_then_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    store = ObjectStore(Url(f"memory://{uuid4().hex}"))
    manifest, written = Manifest(store), []
    for now in (4, 6, 10, 12, 1000, 1009, 1011):
        clock[0] = now
        before = len(store.list("manifest", ".parquet"))
        manifest.append(row(str(now)))
        written.append(len(store.list("manifest", ".parquet")) > before)
    assert written == [False, True, False, True, True, False, True]
    shards = [BytesIO(store.read(name) or b"") for name in store.list("manifest", ".parquet")]
    assert sum(pq.ParquetFile(shard).metadata.num_rows for shard in shards) == 7, "each row once"
