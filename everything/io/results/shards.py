"""Shards: the results of many images in one file, either parquet (one row per image) or tar (JSON).

A million small objects are slow to list and expensive to store; a shard holds the images of one
block of a job. Both forms preserve the documents of everything/io/results/writer.py exactly.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from everything.core.file_names import as_text

FORMS = ("parquet", "tar")
_Document = dict[str, Any]
_ANNOTATION = pa.struct(
    [
        ("id", pa.int64()),
        ("segmentation", pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])),
        ("bbox", pa.list_(pa.float64())),
        ("area", pa.int64()),
        ("predicted_iou", pa.float64()),
        ("stability_score", pa.float64()),
        ("crop_box", pa.list_(pa.float64())),
        ("point_coords", pa.list_(pa.list_(pa.float64()))),
        ("more", pa.string()),  # all other keys, as JSON
    ]
)
_KEYS = [field.name for field in _ANNOTATION]
_SCHEMA = pa.schema(
    [
        ("file_name", pa.string()),
        ("image_id", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("annotations", pa.list_(_ANNOTATION)),
        ("recipe", pa.string()),
        ("notes", pa.list_(pa.string())),
        ("timing", pa.string()),
    ]
)


def pack(form: str, contents: Mapping[str, bytes]) -> bytes:
    """Return the bytes of a shard.

    Args:
        form: One of FORMS.
        contents: The JSON of each result by the name of its image.
    """
    buffer = io.BytesIO()
    if form == "parquet":
        rows = [_row(json.loads(content)) for content in contents.values()]
        pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), buffer, compression="zstd")
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{name}.json")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class Shard(Mapping[str, _Document]):
    """The documents of a shard by `as_text` of their images' names, each decoded on access.

    Raises:
        ValueError: The content is not a shard.
    """

    def __init__(self, form: str, content: bytes) -> None:
        self._content = content
        try:
            if form == "parquet":
                self._table = pq.read_table(io.BytesIO(content)).combine_chunks()
                self._table.validate(full=True)
                names = self._table["file_name"].to_pylist()
                self._at: dict[str, Any] = {name: row for row, name in enumerate(names)}
            else:
                self._table = None
                self._at = dict(_members(content))
        except (pa.ArrowException, tarfile.TarError, OSError, KeyError) as error:
            raise _not_a_shard(error) from error

    def __getitem__(self, name: str) -> _Document:
        """Return the document of an image.

        Raises:
            KeyError: There is none.
            ValueError: It is damaged.
        """
        at = self._at[name]
        try:
            if self._table is not None:
                return _document(self._table.slice(at, 1).to_pylist()[0])
            document: _Document = json.loads(self._content[at])
            return document
        except (KeyError, TypeError) as error:
            raise _not_a_shard(error) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)


def _members(content: bytes) -> Iterator[tuple[str, slice]]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        for member in archive:
            end = member.offset_data + member.size
            yield as_text(member.name.removesuffix(".json")), slice(member.offset_data, end)


def _not_a_shard(error: Exception) -> ValueError:
    return ValueError(f"not a shard ({error})")


def _row(document: _Document) -> _Document:
    image = document["image"]
    return {
        "file_name": as_text(image["file_name"]),
        **{key: image[key] for key in ("image_id", "width", "height")},
        "annotations": [_with_more(annotation) for annotation in document["annotations"]],
        "recipe": json.dumps(document["recipe"]),
        "notes": document.get("notes"),
        "timing": json.dumps(document["timing"]),
    }


def _with_more(annotation: _Document) -> _Document:
    known = {key: annotation.get(key) for key in _KEYS}
    more = {key: value for key, value in annotation.items() if key not in _KEYS}
    return known | {"more": json.dumps(more) if more else None}


def _document(row: _Document) -> _Document:
    annotations = []
    for annotation in row["annotations"]:
        more = json.loads(annotation.pop("more") or "{}")
        annotations.append(annotation | more)
    return {
        "image": {key: row[key] for key in ("image_id", "width", "height", "file_name")},
        "annotations": annotations,
        "recipe": json.loads(row["recipe"]),
        **({"notes": row["notes"]} if row.get("notes") else {}),
        "timing": json.loads(row["timing"]),
    }
