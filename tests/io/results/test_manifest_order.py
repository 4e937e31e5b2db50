"""The last row of an image counts, whatever the clocks of the machines that wrote the rows."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest

from everything.io.results.manifest import Manifest
from everything.io.results.manifest_rows import Row
from everything.io.storage.locations import Url
from everything.io.storage.object_store import ObjectStore

HOUR = 3600 * 10**9


def row(status: str) -> Row:
    return Row("a.jpg", status, 1, "digest", "host", 1, 1.0, 2.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("ahead", [HOUR, 0, -HOUR])
@pytest.mark.parametrize("compacted", [False, True])
def test_a_later_row_counts_though_its_writers_clock_is_behind(
    ahead: int, compacted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, now = Url(f"memory://{uuid4().hex}"), time.time_ns()
    monkeypatch.setattr("everything.io.results.manifest.time.time_ns", lambda: now + ahead)
    first = Manifest(ObjectStore(root))
    first.append(row("failed"))
    first.compact() if compacted else first.flush()
    monkeypatch.setattr("everything.io.results.manifest.time.time_ns", lambda: now)
    second = Manifest(ObjectStore(root))
    second.append(row("done"))
    second.flush()
    assert Manifest(ObjectStore(root)).table()["status"].to_pylist() == ["done"]
    assert Manifest(ObjectStore(root)).known("digest").done == 1
    second.append(row("failed"))
    second.compact()
    second.append(row("done"))
    second.flush()
    assert Manifest(ObjectStore(root)).table()["status"].to_pylist() == ["done"]
    assert len(ObjectStore(root).list("manifest", ".parquet")) == 2


def test_foreign_names_of_shards_do_no_harm() -> None:
    root = Url(f"memory://{uuid4().hex}")
    for name in ("part-7-x.parquet", f"part-{9 * 10**30}.parquet", "other.parquet"):
        ObjectStore(root).write(f"manifest/{name}", [b"not a table"])
    manifest = Manifest(ObjectStore(root))
    manifest.append(row("done"))
    manifest.flush()
    assert manifest.table()["status"].to_pylist() == ["done"]
