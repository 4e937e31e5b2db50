"""Zip archives, as several programs write them."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from uuid import uuid4

import pytest

from everything.errors import EverythingError, ImageError, InputError
from everything.io.images.decode import Limits
from everything.io.images.fetch import read_source
from everything.io.images.listing import list_images
from everything.io.storage.locations import Location, Url
from everything.io.storage.object_store import ObjectStore
from tests.fakes import save_photo

LIMITS = Limits(max_bytes=100_000)
CONTENT = {"a.jpg": b"a" * 5000, "b/ü 1.png": os.urandom(5000), "c.jpg": b""}


class OneWay(io.RawIOBase):
    """A pipe: nothing written can be changed, so that sizes and sums follow the content."""

    def __init__(self) -> None:
        self.written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.written += bytes(data)  # type: ignore[call-overload]
        return len(memoryview(data))  # type: ignore[arg-type]


def packed(method: int, through_pipe: bool = False, **more: bytes) -> bytes:
    out = OneWay() if through_pipe else io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in (
            CONTENT | {"notes.txt": b"", "__MACOSX/._a.jpg": b"x"} | more
        ).items():
            archive.writestr(name, content)
        archive.mkdir("folder.jpg")
    return bytes(out.written) if isinstance(out, OneWay) else out.getvalue()


def contents(*places: Location) -> dict[str, bytes]:
    return {source.name: read_source(source, LIMITS) for source in list_images(places)}


@pytest.fixture
def bucket() -> ObjectStore:
    return ObjectStore(Url(f"memory://{uuid4().hex}"))


METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@pytest.mark.parametrize("through_pipe", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_zips_are_inputs(
    tmp_path: Path,
    bucket: ObjectStore,
    method: int,
    through_pipe: bool,
) -> None:
    data = packed(method, through_pipe)
    (tmp_path / "x.zip").write_bytes(data)
    bucket.write("x.zip", [data])
    expected = {f"x.zip/{name}": content for name, content in CONTENT.items()}
    assert contents(tmp_path / "x.zip") == expected
    assert contents(bucket.root / "x.zip") == expected
    assert contents(tmp_path / "*.zip") == expected
    assert contents(bucket.root / "*.zip") == expected


def test_names_as_dos_writes_them(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("p\\a.jpg")
    entry.create_system = 0
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(entry, b"a")
    assert contents(tmp_path / "x.zip") == {"x.zip/p/a.jpg": b"a"}


@pytest.mark.parametrize("through_pipe", [False, True])
@pytest.mark.parametrize("method", METHODS[:2])
def test_damage_in_a_zip_is_an_error_of_its_image(
    tmp_path: Path, method: int, through_pipe: bool
) -> None:
    data = bytearray(packed(method, through_pipe))
    at = data.index(CONTENT["b/ü 1.png"][:64])  # noise is not packed
    data[at + 8] ^= 1
    (tmp_path / "x.zip").write_bytes(data)
    first, second, _ = list_images([tmp_path / "x.zip"])
    assert read_source(first, LIMITS) == CONTENT["a.jpg"]
    with pytest.raises(ImageError, match=r"in the archive is wrong|cannot be unpacked"):
        read_source(second, LIMITS)


@pytest.mark.parametrize("method", METHODS)
def test_what_unpacks_to_too_much_is_not_unpacked(tmp_path: Path, method: int) -> None:
    (tmp_path / "x.zip").write_bytes(packed(method, **{"bomb.jpg": bytes(10_000_000)}))
    bomb = next(s for s in list_images([tmp_path / "x.zip"]) if s.name.endswith("bomb.jpg"))
    for size in (bomb.size, 0, None):
        with pytest.raises(ImageError, match=r"over the limit|more than 100,000 bytes"):
            read_source(bomb._replace(size=size), LIMITS)


def test_an_encrypted_image_is_an_error(tmp_path: Path) -> None:
    data = bytearray(packed(zipfile.ZIP_STORED))
    data[6] |= 1
    (tmp_path / "x.zip").write_bytes(data)
    first = next(list_images([tmp_path / "x.zip"]))
    with pytest.raises(ImageError, match="encrypted"):
        read_source(first, LIMITS)


@pytest.mark.parametrize("data", [b"", b"no archive", packed(8)[:4000], packed(8)[:-30]])
def test_a_broken_zip_is_listed_itself(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(data)
    assert [source.name for source in list_images([tmp_path / "x.zip"])] == ["x.zip"]


def test_an_archive_that_has_changed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(packed(8))
    sources = list(list_images([tmp_path / "x.zip"]))
    (tmp_path / "x.zip").write_bytes(b"now shorter")
    with pytest.raises(ImageError, match="damaged or was changed"):
        read_source(sources[1], LIMITS)
    (tmp_path / "x.zip").unlink()
    with pytest.raises(EverythingError, match="no such file"):
        read_source(sources[1], LIMITS)


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".tar.xz", ".7z"])
def test_archives_whose_images_cannot_be_read_one_by_one(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"x{suffix}").write_bytes(b"x")
    save_photo(tmp_path / "a.jpg")
    for places in ([tmp_path / f"x{suffix}"], [tmp_path / "a.jpg", tmp_path / f"x{suffix}"]):
        with pytest.raises(InputError, match="unpack it"):
            list(list_images(places))
