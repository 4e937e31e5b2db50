"""What others wrote is read, or refused in a line: configs, results, truth, lists, manifests."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from everything.core import rle
from everything.errors import EverythingError, ImageError, InputError
from everything.evaluation.mask_scores import evaluate
from everything.io.images.decode import Limits
from everything.io.images.fetch import read_source
from everything.io.images.listing import list_images
from everything.io.images.uri_lists import LISTS
from everything.io.results.manifest import Manifest
from everything.io.results.reader import Results
from everything.io.results.result_document import read_document
from everything.io.storage.local import Folder
from everything.io.storage.locations import located
from everything.jobs.import_labels import import_labels
from everything.jobs.status import status
from everything.recipes.resolve import resolve
from everything.report.build import write_report
from tests.labelled import disc, records, write_labels
from tests.reliability.mutations import as_json, mutated_bytes, mutated_trees

fuzz = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
SIZE = (24, 32)
MASKS = [disc(SIZE, (12, 10), 8), disc(SIZE, (20, 10), 4)]
RECIPE = {
    "variant": "nano",
    "sampler": {"name": "hierarchical", "points_per_side": 8},
    "filters": {"pred_iou_thresh": 0.5, "stability_score_thresh": 0.9},
    "nms": {"kind": "mask"},
    "output": {"label_map": True},
    "tiles": {"tile_side": 512},
}
SA1B = {
    "image": {"image_id": 1, "width": 32, "height": 24, "file_name": "a.jpg"},
    "annotations": records(MASKS),
}
COCO = {
    "images": [{"id": 1, "width": 32, "height": 24, "file_name": "a.jpg"}],
    "categories": [{"id": 3, "name": "thing"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "area": 9, "iscrowd": 0, "bbox": [1, 1, 3, 3],
         "segmentation": [[1, 1, 4, 1, 4, 4, 1, 4]]},
        {"id": 2, "image_id": 1, "category_id": 3, "area": 9, "iscrowd": 1, "bbox": [0, 0, 9, 9],
         "segmentation": {"size": [24, 32], "counts": [5, 9, 754]}},
        {"id": 3, "image_id": 1, "category_id": 3, "area": 9, "iscrowd": 0, "bbox": [0, 0, 9, 9],
         "segmentation": records(MASKS)[0]["segmentation"]},
    ],
}  # fmt: skip
ROWS = [{"uri": "a.jpg", "name": "one.jpg"}, {"uri": "s3://b/c.jpg"}, {"uri": "x/d.png", "n": 1}]


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def refused(action: Callable[[], object], kind: type[Exception] = EverythingError) -> bool:
    """Do it; say whether it was refused, which must take one line."""
    try:
        action()
    except kind as error:
        return is_one_line(str(error))
    return False


def is_one_line(message: str) -> bool:
    assert len(message.splitlines()) == 1, message
    assert len(message.encode()) < 20_000, message
    return True


@fuzz
@given(mutated_trees(RECIPE).map(yaml.safe_dump) | mutated_bytes(yaml.safe_dump(RECIPE).encode()))
def test_recipes(content: str | bytes) -> None:
    with folder() as home:
        file = home / "recipe.yaml"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        refused(lambda: resolve(config=file))


@fuzz
@given(
    st.text() | st.sampled_from(["sampler=" + "[" * 9999, "a.b=" + "9" * 5000, "nms.kind=&a [*a]"])
)
def test_settings_on_the_command_line(text: str) -> None:
    refused(lambda: resolve(sets=[text]))


def test_yaml_makes_no_objects_and_does_not_explode(tmp_path: Path) -> None:
    laughs = "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n"
    for number in range(40):
        before, name = ("a" if number == 0 else f"b{number - 1}"), f"b{number}"
        laughs += f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    harmful = f"variant: !!python/object/apply:os.mkdir ['{tmp_path / 'touched'}']"
    recipe = tmp_path / "recipe.yaml"
    for content in (laughs, harmful, "sampler: &a {name: *a}", "&a variant: *a"):
        recipe.write_text(content)
        assert refused(partial(resolve, config=recipe))
        assert refused(partial(resolve, sets=[f"sampler={content}"]))
    assert not (tmp_path / "touched").exists()


@fuzz
@given(mutated_trees(SA1B).map(as_json) | mutated_bytes(as_json(SA1B)))
def test_annotation_files(content: bytes) -> None:
    with folder() as home:
        (home / "a.json").write_bytes(content)
        read_document(content)
        results = Results(home)
        if not refused(lambda: list(results), InputError):
            refused(lambda: write_report(home, home / "page"))
            refused(lambda: evaluate(home, home))


@fuzz
@given(mutated_trees(COCO).map(as_json) | mutated_bytes(as_json(COCO)))
def test_coco_files(content: bytes) -> None:
    with folder() as home:
        (home / "coco.json").write_bytes(content)
        refused(lambda: import_labels([home / "coco.json"], home / "out"))
        write_labels(home / "labels", home / "photos", {"a.jpg": MASKS})
        refused(lambda: evaluate(home / "labels", home / "coco.json"))
        assert {path.name for path in home.iterdir()} <= {"coco.json", "out", "labels", "photos"}


@cache
def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in (("sa_1.jpg", b"not one"), ("sa_1.json", as_json(SA1B))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@fuzz
@given(mutated_bytes(tar()))
def test_archives(content: bytes) -> None:
    with folder() as home:
        (home / "sa.tar").write_bytes(content)
        refused(lambda: import_labels([home / "sa.tar"], home / "out", home / "photos"))
        refused(lambda: read_all(home / "sa.tar"), InputError)
        assert {path.name for path in home.iterdir()} <= {"sa.tar", "out", "photos"}


def read_all(place: Path) -> None:
    """List what is there and read each: a photo that cannot be had is one error of its own."""
    for source in list_images([located(place)]):
        if "://" not in (source.file or ""):
            refused(partial(read_source, source, Limits(max_bytes=10**6)), ImageError)
        source.printable.encode()


def csv_of(rows: list[dict[str, object]]) -> bytes:
    lines = ["uri,name", *(f"{row.get('uri')},{row.get('name', '')}" for row in rows)]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def jsonl_of(rows: list[dict[str, object]]) -> bytes:
    return b"\n".join(as_json(row) for row in rows)


def parquet_of(rows: list[dict[str, object]]) -> bytes:
    buffer = io.BytesIO()
    columns = {"uri": [str(row.get("uri")) for row in rows], "n": list(range(len(rows)))}
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


@fuzz
@given(
    st.sampled_from(LISTS),
    mutated_trees(ROWS).map(jsonl_of)
    | mutated_bytes(jsonl_of(ROWS))
    | mutated_bytes(csv_of(ROWS))
    | mutated_bytes(parquet_of(ROWS)),
)
def test_lists(suffix: str, content: bytes) -> None:
    with folder() as home:
        (home / f"list{suffix}").write_bytes(content)
        refused(lambda: read_all(home / f"list{suffix}"), InputError)


@cache
def manifest() -> dict[str, bytes]:
    """What a finished job and a killed one leave."""
    with folder() as home:
        write_labels(home / "out", home, {"a.jpg": MASKS}, failures={"b.jpg": "broken"})
        Manifest(Folder(home / "out")).compact()
        content = {"manifest/part-00000.parquet": next((home / "out/manifest").glob("*.parquet"))}
        content["errors.jsonl"] = home / "out" / "errors.jsonl"
        content["recipe.yaml"] = home / "out" / "recipe.yaml"
        found = {name: file.read_bytes() for name, file in content.items()}
    row = {"name": "a.jpg", "status": "done", "image_id": 1, "digest": "x", "host": "h",
           "attempt": 1, "started": 1.0, "finished": 2.0, "seconds": {"total": 1.0},
           "counts": {"masks": 1}, "notes": ["x"], "folder": "/"}  # fmt: skip
    return found | {"ledger.jsonl": as_json(row), "manifest/_job.json": b'{"images":2,"began":1.0}'}


@fuzz
@given(st.data())
def test_manifests(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(manifest())))
    content = manifest()[name]
    with folder() as home:
        write_labels(home / "out", home, {"a.jpg": MASKS}, failures={"b.jpg": "broken"})
        for other, kept in manifest().items():
            (home / "out" / other).write_bytes(kept)
        changed = mutated_bytes(content)
        if "json" in name:
            changed = changed | mutated_trees(json.loads(content.splitlines()[0])).map(as_json)
        (home / "out" / name).write_bytes(data.draw(changed))
        refused(lambda: status(home / "out"), InputError)
        refused(lambda: list(Results(home / "out")), InputError)
        refused(lambda: write_report(home / "out", home / "page"))
        refused(lambda: write_labels(home / "out", home, {"a.jpg": MASKS}))


@settings(fuzz, max_examples=fuzz.max_examples * 5)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=130), max_size=40))
def test_run_lengths(counts: str) -> None:
    code = rle.Rle(size=[6, 7], counts=counts)
    if refused(partial(rle.runs, code), ValueError):
        return
    edges = rle.runs(code)
    rle.check([code, code])
    mask = coco_mask.decode(code)
    assert mask.sum() == np.diff(edges, axis=1).sum()
    found, (x, y) = rle.cut(code)
    assert (mask[y : y + found.shape[0], x : x + found.shape[1]] == found).all()


@pytest.mark.parametrize("counts", [None, 5, [], {}, [1, 2], "\ud800", "11"])
@pytest.mark.parametrize("size", [[6, 7], None, [], [1], [0, 0], [-1, 5], [1e9, 1e9], "ab"])
def test_run_lengths_of_other_types(counts: object, size: object) -> None:
    annotation = records(MASKS)[0] | {"segmentation": {"size": size, "counts": counts}}
    with folder() as home:
        (home / "a.json").write_bytes(as_json(SA1B | {"annotations": [annotation]}))
        results = Results(home)
        assert list(results) == []
        assert "mask 0: " in results.unreadable["a"]
