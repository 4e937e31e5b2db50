from __future__ import annotations

import json
import tarfile
from io import BytesIO

import pyarrow.parquet as pq
import pytest

from everything.core.file_names import image_id
from everything.io.results.shards import FORMS, Shard, pack
from tests.io.results.test_writer import annotation


def document(name: str, count: int, **more: object) -> dict[str, object]:
    image = {"image_id": image_id(name), "width": 12, "height": 10, "file_name": name}
    return {
        "image": image,
        "annotations": [annotation() | more for _ in range(count)],
        "recipe": {"digest": "d", "sampler": {"name": "grid"}},
        "timing": {"read": 0.5, "masks": count},
    }


DOCUMENTS = [document("a.jpg", 2), document("x/b.png", 0), document("c", 1, parent=3, note=None)]
CONTENTS = {str(d["image"]["file_name"]): json.dumps(d).encode() for d in DOCUMENTS}  # type: ignore[index]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_packed_comes_back(form: str) -> None:
    assert list(Shard(form, pack(form, CONTENTS)).values()) == DOCUMENTS
    assert pack(form, CONTENTS) == pack(form, CONTENTS)
    nothing = {"x/b.png": CONTENTS["x/b.png"]}
    assert list(Shard(form, pack(form, nothing)).values()) == [DOCUMENTS[1]]


def test_parquet_has_a_row_a_photo_with_nested_annotations() -> None:
    table = pq.read_table(BytesIO(pack("parquet", CONTENTS)))
    assert table["file_name"].to_pylist() == ["a.jpg", "x/b.png", "c"]
    first = table["annotations"][0].as_py()[0]
    assert first["segmentation"] == annotation()["segmentation"]
    assert first["area"] == annotation()["area"]


def test_tar_has_the_very_bytes_of_the_files() -> None:
    with tarfile.open(fileobj=BytesIO(pack("tar", CONTENTS))) as archive:
        assert archive.getnames() == ["a.jpg.json", "x/b.png.json", "c.json"]
        file = archive.extractfile("a.jpg.json")
        assert file is not None
        assert file.read() == CONTENTS["a.jpg"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("content", [b"PAR1", b"x" * 600])
def test_what_is_no_shard(form: str, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a shard|Expecting"):
        Shard(form, content)
