from __future__ import annotations

import gzip
import http.server
import io
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from everything.core.file_names import is_inside
from everything.errors import ImageError, InputError
from everything.io.images.decode import Limits
from everything.io.images.fetch import read_source
from everything.io.images.listing import list_images
from everything.io.images.sources import Source, list_inputs
from everything.io.storage.locations import Location, Url, filesystem, located
from everything.io.storage.object_store import ObjectStore
from everything.jobs.label import label
from tests.fakes import RECIPE, build, save_photo
from tests.s3 import s3_server

LIMITS = Limits(max_bytes=10_000)


def names(*places: Location) -> list[str]:
    return [source.name for source in list_images(places)]


def contents(*places: Location) -> dict[str, bytes]:
    return {source.name: read_source(source, LIMITS) for source in list_images(places)}


def files(folder: Path) -> dict[str, bytes]:
    """A folder with photos and other things in it."""
    made = {
        "b/z.png": b"z", "b/a b?.jpg": b"ab", "b.jpg": b"b", "a.jpg": b"a", "c/d/e.JPG": b"e",
    }  # fmt: skip
    for name, content in (made | {"notes.txt": b"", "c/.hidden.jpg": b"", "list.md": b""}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return made


@pytest.fixture
def bucket() -> ObjectStore:
    return ObjectStore(Url(f"memory://{uuid4().hex}"))


def test_a_bucket_is_listed_like_a_folder(tmp_path: Path, bucket: ObjectStore) -> None:
    made = files(tmp_path)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            bucket.write(path.relative_to(tmp_path).as_posix(), [path.read_bytes()])
    far = list(list_images([bucket.root]))
    assert [source.name for source in far] == [s.name for s in list_inputs([tmp_path])]
    assert contents(bucket.root) == contents(tmp_path) == made
    assert [source.size for source in far] == [len(made[source.name]) for source in far]
    assert contents(bucket.root / "b/z.png") == {"z.png": b"z"}
    with pytest.raises(InputError, match="nothing is there"):
        names(bucket.root / "nothing")


def test_globs(tmp_path: Path, bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    files(tmp_path)
    for name in ("x/1.jpg", "x/2.jpg", "y/3.png", "y/4.txt"):
        bucket.write(name, [b"far"])
    assert names(tmp_path / "*.jpg") == ["a.jpg", "b.jpg"]
    assert names(tmp_path / "**/*.[jJ]*") == ["a.jpg", "b.jpg", "b/a b?.jpg", "c/d/e.JPG"]
    assert names(tmp_path / "b/a b?.jpg") == ["a b?.jpg"]  # a file that is called so
    assert names(bucket.root / "x/*.jpg") == ["1.jpg", "2.jpg"]
    assert names(bucket.root / "*/*") == ["x/1.jpg", "x/2.jpg", "y/3.png"]
    monkeypatch.chdir(tmp_path)
    assert names(Path("b/*.png")) == ["z.png"]
    assert contents(Path("*.jpg")) == {"a.jpg": b"a", "b.jpg": b"b"}
    assert names(tmp_path / "*.tif") == []


ROWS = [{"uri": "p/a.jpg"}, {"uri": "memory://far/x.png"}, {"uri": "p/b.jpg", "name": "n/b.jpg"}]


def lists(folder: Path) -> None:
    filled = [{"name": None} | row for row in ROWS]
    pq.write_table(pa.Table.from_pylist(filled), folder / "list.parquet")
    lines = [f"{row['uri']},{row.get('name', '')}" for row in ROWS]
    (folder / "list.csv").write_text("uri,name\n" + "\n".join(lines) + "\n")
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n\n" for row in ROWS))


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_lists(tmp_path: Path, kind: str) -> None:
    for name in "ab":
        save_photo(tmp_path / f"p/{name}.jpg")
    ObjectStore(Url("memory://far")).write("x.png", [b"x"])
    lists(tmp_path)
    found = list(list_images([tmp_path / f"list.{kind}"]))
    assert [source.name for source in found] == ["p/a.jpg", "far/x.png", "n/b.jpg"]
    assert read_source(found[1], LIMITS) == b"x"
    assert read_source(found[2], LIMITS) == (tmp_path / "p/b.jpg").read_bytes()


def test_lists_of_lines_and_of_strings(tmp_path: Path, bucket: ObjectStore) -> None:
    save_photo(tmp_path / "a.jpg")
    (tmp_path / "list.txt").write_text(f"a.jpg\n\n{tmp_path}/a.jpg\nfile://{tmp_path}/a.jpg\n")
    whole = f"{tmp_path}/a.jpg".lstrip("/")
    found = list(list_images([tmp_path / "list.txt"]))
    assert [source.name for source in found] == ["a.jpg", whole]
    assert len({read_source(source, LIMITS) for source in found}) == 1
    bucket.write("l/list.jsonl", [b'"a.jpg"\n"/b.jpg"'])
    bucket.write("l/a.jpg", [b"a"])
    bucket.write("l/b.jpg", [b"b"])
    assert contents(bucket.root / "l/list.jsonl") == {"a.jpg": b"a", "b.jpg": b"b"}


def test_what_a_list_has_twice_is_listed_once(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("b.jpg\na.jpg\nb.jpg\nb.jpg\ns3://x/c.jpg\ns3://x/c.jpg\n")
    assert names(tmp_path / "l.txt") == ["b.jpg", "a.jpg", "x/c.jpg"]
    (tmp_path / "l.txt").write_text("s3://x/c.jpg\na.jpg\ngs://x/c.jpg\n")
    with pytest.raises(InputError, match=r"s3://x/c.jpg and gs://x/c.jpg would have .* column"):
        names(tmp_path / "l.txt")
    half = [{"uri": "\ud800.jpg"}, {"uri": "\ud800.jpg"}]  # JSON has half characters
    (tmp_path / "l.jsonl").write_text("".join(json.dumps(row) + "\n" for row in half))
    assert names(tmp_path / "l.jsonl") == ["\ud800.jpg"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.parquet", b"PAR1", "not a list"),
        ("a.jsonl", b"{", "not a list"),
        ("a.jsonl", b"{}", "not a list"),
        ("a.jsonl", b'"a.jpg"\n{"uri": 1}', "row 2: 1 is not a URI"),
        ("a.jsonl", json.dumps({"uri": {"bytes": "x" * 5000}}).encode(), r".{,200} is not a URI"),
        ("a.json", b'["a.jpg"]', r"neither an image nor a list.*save it as one of .parquet"),
        ("a.csv", b"\xff\xfe\xff", "not a list"),
        ("a.csv", b"uri\n\n,x\n", "not a list"),
        ("missing.csv", None, "not a list"),
    ],
)
def test_what_is_no_list(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=reason):
        names(tmp_path / name)


def test_a_list_from_afar_cannot_name_files_of_this_machine(bucket: ObjectStore) -> None:
    bucket.write("list.txt", [b"file:///etc/passwd\n"])
    with pytest.raises(InputError, match="of this machine, the list is not"):
        names(bucket.root / "list.txt")


@pytest.mark.parametrize("uri", ["ftp://a/b.jpg", "memory://nothing/b.jpg", "../../x.jpg", "/x"])
def test_a_bad_row_of_a_list_is_one_failed_photo(tmp_path: Path, uri: str) -> None:
    save_photo(tmp_path / "a.jpg")
    (tmp_path / "list.txt").write_text(f"{uri}\na.jpg\n")
    console = Console(file=io.StringIO())
    listing = partial(list_images, [tmp_path / "list.txt"])
    summary = label(
        listing, tmp_path / "out", RECIPE, build=build, preview=False, console=console
    )  # fmt: skip
    assert (summary.done, summary.failed) == (1, 1)
    assert not list(tmp_path.rglob("x.jpg.json"))


def tar(members: dict[str, bytes], *kinds: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for kind in kinds:
            info = tarfile.TarInfo(f"other{kind.decode()}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    return buffer.getvalue()


LONG = "k/" + "long" * 40 + ".jpg"
MEMBERS = {"sa_1.jpg": b"1" * 700, "sa_1.json": b"{}", f"./{LONG}": b"", "2.png": b"2"}


def test_members_of_archives(tmp_path: Path, bucket: ObjectStore) -> None:
    expected = {
        "sa_0.tar/sa_1.jpg": b"1" * 700,
        f"sa_0.tar/{LONG}": b"",
        "sa_0.tar/2.png": b"2",
    }
    (tmp_path / "sa_0.tar").write_bytes(tar(MEMBERS, tarfile.DIRTYPE))
    bucket.write("sa_0.tar", [tar(MEMBERS, tarfile.DIRTYPE)])
    bucket.write("sa_1.tar", [tar({"3.jpg": b"3"})])
    assert contents(tmp_path / "sa_0.tar") == contents(bucket.root / "sa_0.tar") == expected
    assert contents(bucket.root / "sa_*.tar") == expected | {"sa_1.tar/3.jpg": b"3"}


def test_links_in_an_archive_are_failed_images_and_lead_nowhere(tmp_path: Path) -> None:
    links = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)
    (tmp_path / "x.tar").write_bytes(tar({"1.jpg": b"1"}, *links))
    (tmp_path / "s.jpg").write_bytes(b"s" * 5000)
    os.truncate(tmp_path / "s.jpg", 2**20)
    subprocess.run(["tar", "-Scf", "s.tar", "s.jpg"], cwd=tmp_path, check=True)
    found = {source.name: source for source in list_images([tmp_path / "*.tar"])}
    assert read_source(found.pop("x.tar/1.jpg"), LIMITS) == b"1"
    assert sorted(found) == ["s.tar/s.jpg", *(f"x.tar/other{n}.jpg" for n in (1, 2, 6))]
    for source in found.values():
        with pytest.raises(ImageError, match=r"in the archive: pack it anew"):
            read_source(source, LIMITS)


def test_a_compressed_tar_under_a_plain_name_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(gzip.compress(tar({"1.jpg": b"1"})))
    (source,) = list_images([tmp_path / "x.tar"])
    with pytest.raises(ImageError, match=r"compressed, .* unpack it"):
        read_source(source, Limits())


def test_files_of_kinds_that_are_not_read_are_counted(
    tmp_path: Path, bucket: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.jpg", "b.CR2", "c/d.cr2", "c/e.zip", "notes.txt", "._b.CR2"):
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / name).write_bytes(b"x")
        bucket.write(f"p/{name}", [b"x"])
    for place in (tmp_path / "p", bucket.root / "p"):
        caplog.clear()
        assert names(place) == ["a.jpg"]
        assert f"{place}: files of kinds that are not read here: 2 .cr2, 1 .zip" in caplog.text


def test_a_broken_archive_is_one_failed_photo_more(tmp_path: Path) -> None:
    content = tar({"1.jpg": b"1" * 600, "2.jpg": b"2" * 600})
    (tmp_path / "cut.tar").write_bytes(content[:1800])
    (tmp_path / "no.tar").write_bytes(b"no archive")
    found = list(list_images([tmp_path / "*.tar"]))
    assert found[0].name == "cut.tar/1.jpg"
    assert "no.tar" in [source.name for source in found]


def test_members_cannot_lead_out(tmp_path: Path) -> None:
    save_photo(tmp_path / "a.jpg")
    good = (tmp_path / "a.jpg").read_bytes()
    bad = {"../../evil.jpg": good, "/evil.jpg": good, "a/../../evil.jpg": good, "ok.jpg": good}
    (tmp_path / "x.tar").write_bytes(tar(bad))
    listing = partial(list_images, [tmp_path / "x.tar"])
    console = Console(file=io.StringIO())
    summary = label(
        listing, tmp_path / "out/in", RECIPE, build=build, preview=False, console=console
    )  # fmt: skip
    assert (summary.done, summary.failed) == (1, 3)
    assert all("leads out of the results" in failure for failure in summary.failures)
    assert [p.name for p in tmp_path.rglob("*.jpg.json")] == ["ok.jpg.json"]


def test_several_inputs_keep_their_names_apart(tmp_path: Path, bucket: ObjectStore) -> None:
    files(tmp_path / "near")
    bucket.write("far/a.jpg", [b"far"])
    found = contents(tmp_path / "near", bucket.root / "far")
    assert (found["near/a.jpg"], found["far/a.jpg"]) == (b"a", b"far")
    with pytest.raises(InputError, match="two inputs end so"):
        names(bucket.root / "far", bucket.root / "x/far")


def test_limits_hold_far_away(bucket: ObjectStore) -> None:
    bucket.write("large.jpg", [b"x" * 10_001])
    bucket.write("large.tar", [tar({"large.jpg": b"x" * 10_001})])
    for place in (bucket.root, bucket.root / "large.tar"):
        (source,) = list_images([place])
        with pytest.raises(ImageError, match=r"10,001 bytes are over the limit of 10,000"):
            read_source(source, LIMITS)
        with pytest.raises(ImageError, match="over the limit"):
            read_source(source._replace(size=source.size if source.start else None), LIMITS)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    handler = partial(Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_photos_and_lists_from_the_web(tmp_path: Path, web: str) -> None:
    save_photo(tmp_path / "p/a.jpg")
    photo = (tmp_path / "p/a.jpg").read_bytes()
    (tmp_path / "list.csv").write_text(f"url\n{web}/p/a.jpg\n{web}/p/missing.jpg\n")
    assert contents(located(f"{web}/p/a.jpg")) == {"a.jpg": photo}
    first, second = list_images([located(f"{web}/list.csv")])
    assert first.name == f"{web.removeprefix('http://')}/p/a.jpg"
    assert read_source(first, LIMITS) == photo
    with pytest.raises(ImageError, match="check that it is there"):
        read_source(second, LIMITS)


def test_a_source_says_where_it_is() -> None:
    assert Source("/a", "b.jpg").location == Path("/a/b.jpg")
    assert Source("s3://a", "b.jpg").location == Url("s3://a/b.jpg")
    assert Source("/a", "b", file="s3://c/d").location == Url("s3://c/d")


EXCEL = {
    "bom.csv": b'\xef\xbb\xbfname,uri\r\nx1.jpg,p/b.jpg\r\nx2.jpg,"p/\xc3\xbc 1.jpg"\r\n',
    "semi.csv": b"uri;name\r\np/b.jpg;x1.jpg\r\np/\xc3\xbc 1.jpg;x2.jpg\r\n;\r\n",
    "tab.csv": b"name\turi\nx1.jpg\tp/b.jpg\nx2.jpg\tp/\xc3\xbc 1.jpg\n",
    "bars.csv": b"note|uri|name\na, b|p/b.jpg|x1.jpg\n|p/\xc3\xbc 1.jpg|x2.jpg\n",
    "both.csv": b"\xef\xbb\xbfURI;Name\r\np\\b.jpg;x1.jpg\r\np\\\xc3\xbc 1.jpg;x2.jpg\r\n",
    "sep.csv": b"sep=;\r\nuri;name\r\np/b.jpg;x1.jpg\r\np/\xc3\xbc 1.jpg;x2.jpg\r\n",
    "comma in it.csv": b"note;uri;name\na,b,c;p/b.jpg;x1.jpg\nd;p/\xc3\xbc 1.jpg;x2.jpg\n",
    "utf-16.csv": "uri\tname\r\np/b.jpg\tx1.jpg\r\np/ü 1.jpg\tx2.jpg\r\n".encode("utf-16"),
    "bom.jsonl": b'\xef\xbb\xbf{"uri":"p/b.jpg","name":"x1.jpg"}\n'
    b'{"uri":"p/\xc3\xbc 1.jpg","name":"x2.jpg"}\n',
}


@pytest.mark.parametrize("kind", EXCEL)
def test_lists_as_excel_writes_them(tmp_path: Path, bucket: ObjectStore, kind: str) -> None:
    for name in ("b.jpg", "ü 1.jpg"):
        save_photo(tmp_path / "p" / name)
    (tmp_path / kind).write_bytes(EXCEL[kind])
    found = contents(tmp_path / kind)
    assert list(found) == ["x1.jpg", "x2.jpg"]
    assert found["x1.jpg"] == (tmp_path / "p/b.jpg").read_bytes()


@pytest.mark.parametrize("name", ["l.txt", "l.csv"])
def test_lists_without_a_header_lose_no_image(tmp_path: Path, name: str) -> None:
    lines = "p/b.jpg\r\np/ü 1.jpg\r\nfile:///a%20b.jpg\r\n"
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + lines.encode())
    assert names(tmp_path / name) == ["p/b.jpg", "p/ü 1.jpg", "a b.jpg"]
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        (tmp_path / name).write_bytes(lines.encode(encoding))
        assert names(tmp_path / name) == ["p/b.jpg", "p/ü 1.jpg", "a b.jpg"]


def test_a_row_without_an_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("name,uri\nx.jpg,\n")
    with pytest.raises(InputError, match="is not a URI"):
        names(tmp_path / "l.csv")
    (tmp_path / "l.csv").write_text("name,uri\nx.jpg\n")
    with pytest.raises(InputError, match="is not a URI"):
        names(tmp_path / "l.csv")
    (tmp_path / "l.csv").write_bytes("uri\nü.jpg\n".encode("cp1252"))
    with pytest.raises(InputError, match="save it as UTF-8"):
        names(tmp_path / "l.csv")


@pytest.mark.parametrize("name", ["a b#1.jpg", "a%20b.jpg", "ü?.jpg", "100%.jpg", "plain.jpg"])
def test_file_uris_as_python_writes_them(tmp_path: Path, name: str) -> None:
    save_photo(tmp_path / name)
    uri = (tmp_path / name).as_uri()
    local = uri.replace("file:///", "file://localhost/")
    (tmp_path / "l.txt").write_text(f"{uri}\n{local}\n")
    whole = str(tmp_path / name).lstrip("/")
    assert contents(tmp_path / "l.txt") == {whole: (tmp_path / name).read_bytes()}
    assert names(located(uri)) == [name]


def test_file_uris_without_escapes_still_work(tmp_path: Path) -> None:
    save_photo(tmp_path / "100%25.jpg")
    (tmp_path / "l.txt").write_text(f"file://{tmp_path}/100%25.jpg\n")
    assert len(contents(tmp_path / "l.txt")) == 1
    odd = os.fsdecode(b"\xff.jpg")
    save_photo(tmp_path / odd)
    assert names(located((tmp_path / odd).as_uri())) == [odd]


def test_names_of_presigned_urls_are_of_the_path(tmp_path: Path, web: str) -> None:
    save_photo(tmp_path / "p/a.jpg")
    photo = (tmp_path / "p/a.jpg").read_bytes()
    host = web.removeprefix("http://")
    token = "a/b" * 300 + "=="
    signed = f"{web}/p/a.jpg?X-Amz-Security-Token={token}"
    (tmp_path / "list.csv").write_text(f"url\n{signed}\n")
    assert contents(tmp_path / "list.csv") == {f"{host}/p/a.jpg": photo}
    assert contents(located(signed)) == {"a.jpg": photo}
    assert contents(located(f"{web}/list.csv?sig=x/y")) == {f"{host}/p/a.jpg": photo}
    assert contents(located(signed), tmp_path / "p") == {"a.jpg/a.jpg": photo, "p/a.jpg": photo}
    lost = Source(web, "lost.jpg", file=signed.replace("/a.", "/lost."))
    with pytest.raises(ImageError) as caught:
        read_source(lost, LIMITS)
    assert "X-Amz" not in str(caught.value)


def test_users_and_passwords_are_no_part_of_names(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("https://me:secret@host/p//a.jpg#top\n")
    (source,) = list_images([tmp_path / "l.txt"])
    assert source.name == "host/p/_/a.jpg"
    assert source.printable == "https://host/p//a.jpg"


def test_a_signature_keeps_its_last_slash() -> None:
    assert located("https://h/a.jpg?sig=abc/") == "https://h/a.jpg?sig=abc/"
    assert located("https://h/a/") == "https://h/a"


def test_two_images_whose_urls_differ_in_the_query_alone_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("http://h/get.jpg?id=1\nhttp://h/get.jpg?id=2\n")
    with pytest.raises(InputError, match="give names in a column"):
        names(tmp_path / "l.txt")


KEYS = {
    "a//b.jpg": "a/_/b.jpg",
    "a/_/b.jpg": "a/_/b.jpg",
    "a//c//d.jpg": "a/_/c/_/d.jpg",
    "a/x.jpg": "a/x.jpg",
    "/top.jpg": "_/top.jpg",
    "a///e.jpg": "a/_/_/e.jpg",
    "f/": "",
    "f//notes.txt": "",
}


def test_keys_with_an_empty_part(tmp_path: Path) -> None:
    with s3_server():
        files_of, _ = filesystem(Url("s3://odd"))
        files_of.mkdir("odd")
        for key in KEYS:
            content = b"" if key.endswith("/") else key.encode()
            files_of.call_s3("put_object", Bucket="odd", Key=key, Body=content)
        found = contents(Url("s3://odd"))
        wanted = {key for key, name in KEYS.items() if name}
        assert {content.decode() for content in found.values()} == wanted
        assert len(found) == len(wanted)
        assert all(is_inside(name) for name in found)
        for key in wanted - {"a//b.jpg", "a//c//d.jpg", "a///e.jpg"}:
            assert found[KEYS[key]] == key.encode()
        globbed = contents(Url("s3://odd/a/**/*.jpg"))
        assert {content.decode() for content in globbed.values()} >= {"a///e.jpg", "a/_/b.jpg"}
        (tmp_path / "l.txt").write_text("s3://odd/a//c//d.jpg\n")
        assert contents(tmp_path / "l.txt") == {"odd/a/_/c/_/d.jpg": b"a//c//d.jpg"}


# Forms of a list with p/b.jpg, and what it is called.
ONE_IMAGE: dict[str, tuple[str, str]] = {
    "find . writes this": ("l.txt", "./p/b.jpg\n"),
    "twice in two forms": ("l.txt", "./p/b.jpg\np/b.jpg\n"),
    "up and down": ("l.txt", "p/../p/b.jpg\n"),
    "as Windows copies a path": ("l.txt", '".\\p\\b.jpg"\n'),
    "another name of the column": ("l.csv", "id,Image Path\n3,p/b.jpg\n"),
    "an unknown name of the column": ("l.csv", "id,where\n3,p/b.jpg\n"),
    "no header, not the first column": ("l.csv", "3,p/b.jpg\n"),
    "tabs": ("l.tsv", "label\turi\nwith, comma\tp/b.jpg\n"),
    "a long caption": ("l.csv", f"uri,caption\np/b.jpg,{'x' * 140_000}\n"),
    "of NDJSON": ("l.ndjson", '{"url": "p/b.jpg"}\n'),
    "of JSON": ("l.jsonl", '{"id": 1, "image_path": "p/b.jpg"}\n'),
}


@pytest.mark.parametrize("form", ONE_IMAGE)
def test_lists_as_tools_and_people_write_them(tmp_path: Path, form: str) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p/b.jpg").write_bytes(b"b")
    name, content = ONE_IMAGE[form]
    (tmp_path / name).write_text(content)
    assert contents(tmp_path / name) == {"p/b.jpg": b"b"}


def test_names_of_a_list_that_leads_up_stay_in_the_results(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "b.jpg").write_bytes(b"b")
    (tmp_path / "lists/l.txt").write_text("../b.jpg\n")
    assert contents(tmp_path / "lists/l.txt") == {"b.jpg": b"b"}


def test_spaces_behind_commas_are_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"b")
    (tmp_path / "l.csv").write_text("name, uri\nx1.jpg, b.jpg\n")
    assert contents(tmp_path / "l.csv") == {"x1.jpg": b"b"}


@pytest.mark.parametrize("scheme", ["file:", "FILE://", "file://localhost", "File:"])
def test_forms_of_file_uris(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "a b.jpg").write_bytes(b"b")
    (tmp_path / "l.txt").write_text(f"{scheme}{tmp_path}/a%20b.jpg\n")
    assert contents(tmp_path / "l.txt") == {f"{tmp_path}/a b.jpg"[1:]: b"b"}
