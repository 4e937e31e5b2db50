"""Hugging Face's data sets: data/train-*.parquet, one row per image, with the image inside.

`datasets.load_dataset(DIR)` reads it: Image columns decode by the features in the files' metadata.
A mask is what SA-1B's records call it, with the box that COCO's have, its class and its level, and
without the keys that only SA-1B knows. A file is closed at 500 MB, a row group at 100 images or
64 MB, which is all that is in memory.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

from everything.core import rle
from everything.core.file_names import as_text
from everything.core.geometry import Size
from everything.errors import ImageError
from everything.export.originals import Original
from everything.export.writer import ExportJob, LabelledImage
from everything.io.images.decode import opened_image

_FILE, _GROUP, _ROWS = 500_000_000, 64_000_000, 100  # bytes, bytes, images
_MOST = 178_956_970  # px: Pillow refuses more, and `datasets` reads with Pillow
# What Pillow reads wherever it is installed; not HEIC, JPEG 2000, AVIF.
_FORMATS = {"JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"}
_OBJECT: dict[str, pa.DataType] = {
    "id": pa.int64(),
    "segmentation": pa.struct({"size": pa.list_(pa.int32()), "counts": pa.string()}),
    "bbox": pa.list_(pa.float64()),
    "area": pa.int64(),
    "predicted_iou": pa.float64(),
    "stability_score": pa.float64(),
    "point_coords": pa.list_(pa.list_(pa.float64())),
    "category": pa.string(),
    "level": pa.string(),
    "parent_id": pa.int64(),
    "iscrowd": pa.bool_(),
}
_ROW: dict[str, pa.DataType] = {
    "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
    "image_id": pa.int64(),
    "file_name": pa.string(),
    "width": pa.int32(),
    "height": pa.int32(),
    "objects": pa.list_(pa.struct(_OBJECT)),
}


def write(images: Iterable[LabelledImage], job: ExportJob) -> None:
    """Write the files; masks are exact."""
    files = _Files(job)
    try:
        for image in images:
            files.add(_row(image, job))
            job.fidelity.add_exact(len(image.annotations))
        files.finish()
    finally:
        files.close()


def features(kind: pa.DataType) -> Any:
    """Return the features of `datasets` that a column's type stands for.

    Lists are lists of one feature, which every version of `datasets` reads as such.
    """
    if kind == _ROW["image"]:
        return {"_type": "Image"}
    if pa.types.is_struct(kind):
        return {field.name: features(field.type) for field in kind.fields}
    if pa.types.is_list(kind):
        return [features(kind.value_type)]
    return {"dtype": {"double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}


def schema() -> pa.Schema:
    """Return the columns of the files, with their features as metadata."""
    about = {"info": {"features": {name: features(kind) for name, kind in _ROW.items()}}}
    return pa.schema(_ROW, {"huggingface": json.dumps(about)})


class _Files:
    """Writes rows to files, which get their names when their number is known."""

    def __init__(self, job: ExportJob) -> None:
        self._job, self._schema = job, schema()
        self._paths: list[Path] = []
        self._waiting: list[pa.RecordBatch] = []
        self._open()

    def add(self, row: dict[str, Any]) -> None:
        self._waiting.append(pa.RecordBatch.from_pylist([row], self._schema))
        if len(self._waiting) == _ROWS or sum(one.nbytes for one in self._waiting) > _GROUP:
            self._flush()

    def finish(self) -> None:
        self._flush()
        self.close()
        for number, path in enumerate(self._paths):
            path.rename(path.with_name(f"train-{number:05d}-of-{len(self._paths):05d}.parquet"))

    def close(self) -> None:
        self._writer.close()

    def _open(self) -> None:
        path = self._job.file(f"data/{len(self._paths)}.parquet")
        self._paths.append(path)
        # Images are compressed already, and no two are equal.
        self._writer = pq.ParquetWriter(
            path, self._schema, compression="zstd", use_dictionary=False
        )

    def _flush(self) -> None:
        if not self._waiting:
            return
        if self._paths[-1].stat().st_size > _FILE:
            self.close()
            self._open()
        table = pa.Table.from_batches(self._waiting)
        self._writer.write_table(table, row_group_size=len(table))
        self._waiting.clear()


def _row(image: LabelledImage, job: ExportJob) -> dict[str, Any]:
    height, width = image.size
    return {
        "image": _image(image, job),
        "image_id": image.number,
        "file_name": image.name,
        "width": width,
        "height": height,
        "objects": _objects(image, job),
    }


def _objects(image: LabelledImage, job: ExportJob) -> list[dict[str, Any]]:
    boxes, areas = rle.boxes(image.codes).tolist(), rle.areas(image.codes).tolist()
    rows = []
    for row, (annotation, level) in enumerate(zip(image.annotations, image.levels, strict=True)):
        more = {
            "id": _int64(annotation.get("id", row)),
            "bbox": boxes[row],
            "area": areas[row],
            "category": job.classes.of(annotation).name,
            "level": level,
            "parent_id": _int64(annotation.get("parent_id")),
            "iscrowd": bool(annotation.get("iscrowd")),
        }
        rows.append({name: annotation.get(name) for name in _OBJECT} | more)
    return rows


def _int64(value: object) -> int | None:
    """An ID, or None if it is none, or too large for the column, as only other programs write."""
    return int(value) if isinstance(value, int) and -(2**63) <= value < 2**63 else None


def _image(image: LabelledImage, job: ExportJob) -> dict[str, Any] | None:
    """The image column: the file's content, or where it is, or None if there is no image."""
    original = job.original(image)
    if original is None:
        return None
    if image.size[0] * image.size[1] > _MOST:
        job.fidelity.images_refused += 1
        job.fidelity.mention(image.name, f"over {_MOST:,} px, which Pillow refuses")
        return None
    try:
        if not _reads(original, image.size):
            job.fidelity.images_converted += 1
            return {"bytes": _png(original), "path": image.name}
        if job.images == "link" and (path := _path(original)):
            return {"bytes": None, "path": path}
        return {"bytes": original.content, "path": image.name}
    except ImageError as error:
        job.fidelity.images_not_found += 1
        job.fidelity.mention(image.name, str(error))
        return None


def _path(original: Original) -> str | None:
    """The file's path, if it is on disk and can be written as text."""
    path = "" if original.path is None else str(original.path.resolve())
    return path if path == as_text(path) else None


def _reads(original: Original, size: Size) -> bool:
    """Tell whether Pillow by itself reads the image as it was labelled, at (H, W) px."""
    try:
        with opened_image(io.BytesIO(original.content)) as image:
            if image.format not in _FORMATS:
                return False
            image.load()
            return ImageOps.exif_transpose(image).size == size[::-1]
    except ImageError:
        raise
    except Exception:  # Pillow raises anything
        return False


def _png(original: Original) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(original.decoded.pixels).save(buffer, "PNG")
    return buffer.getvalue()
