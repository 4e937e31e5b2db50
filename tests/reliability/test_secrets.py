"""Users, passwords and queries of URLs are used, and are neither written nor shown."""

from __future__ import annotations

import http.server
import json
import pickle
import threading
from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from pathlib import Path

import pytest
from typer.testing import CliRunner

import everything
from everything.cli.main import app
from everything.config import Recipe
from everything.core.file_names import printable
from everything.errors import ImageError, InputError, without_secrets
from everything.io.images.listing import list_images
from everything.io.storage.locations import Url
from everything.jobs.label import label
from tests.fakes import RECIPE, build, save_photo

SECRETS = ("PASSWORD", "SIGNATURE")
QUERY = "?X-Amz-Signature=SIGNATURE/x.jpg&more=" + 3000 * "S"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A server of tmp_path/web, as an address with a user and a password."""
    (tmp_path / "web").mkdir()
    handler = partial(Quiet, directory=str(tmp_path / "web"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://user:PASSWORD@127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def check_nothing_is_told(folder: Path, *shown: str) -> None:
    for path in folder.rglob("*"):
        content = path.name.encode() + (path.read_bytes() if path.is_file() else b"")
        assert [secret for secret in SECRETS if secret.encode() in content] == [], path
    for text in shown:
        assert [secret for secret in SECRETS if secret in text] == []


def names(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "annotations").rglob("*.json"))


@pytest.mark.parametrize("form", ["csv", "jsonl", "txt"])
def test_listed_urls(tmp_path: Path, web: str, form: str) -> None:
    for name in ("a.jpg", "b.jpg"):
        save_photo(tmp_path / "web/in" / name)
    urls = [f"{web}/in/{name}{QUERY}" for name in ("a.jpg", "b.jpg", "missing.jpg")]
    lines = {"csv": ["uri", *urls], "jsonl": map(json.dumps, urls), "txt": urls}[form]
    listed, out = tmp_path / f"list.{form}", tmp_path / "out"
    listed.write_text("\n".join(lines))
    summary = label(lambda: list_images([listed]), out, RECIPE, build=build, preview=False)
    assert (summary.done, summary.failed) == (2, 1)
    assert names(out) == ["a.jpg.json", "b.jpg.json"]
    report = everything.write_report(out, images=tmp_path / "web")
    assert report.is_file()
    check_nothing_is_told(out, json.dumps(summary.as_dict()), *summary.failures)
    assert "missing.jpg" in summary.failures[0]


def test_a_url_as_the_input(tmp_path: Path, web: str) -> None:
    save_photo(tmp_path / "web/in/a.jpg")
    out = tmp_path / "out"
    command = ["label", f"{web}/in/a.jpg{QUERY}", "--out", str(out), "--sampler", "grid-16"]
    found = CliRunner().invoke(app, command)
    assert (found.exit_code, names(out)) == (0, ["a.jpg.json"])
    check_nothing_is_told(out, found.output)
    missing = ["label", f"{web}/in/none.csv{QUERY}", "--out", str(tmp_path / "other")]
    found = CliRunner().invoke(app, missing)
    assert found.exit_code == 2
    check_nothing_is_told(out, found.output)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_checkpoint(
    tmp_path: Path, web: str, workers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = Path(str(files("everything.bundled") / "weights/nano.safetensors"))
    (tmp_path / "web/nano.safetensors").write_bytes(weights.read_bytes())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    save_photo(tmp_path / "photos/a.jpg")
    out = tmp_path / "out"
    command = ["label", str(tmp_path / "photos"), "--out", str(out), "--variant", "nano"]
    command += ["--sampler", "grid-16", "--workers", workers]
    found = CliRunner().invoke(app, [*command, "--checkpoint", f"{web}/nano.safetensors{QUERY}"])
    assert (found.exit_code, names(out)) == (0, ["a.jpg.json"])
    assert "127.0.0.1" in (out / "recipe.yaml").read_text()
    check_nothing_is_told(out, found.output)
    check_nothing_is_told(tmp_path / "cache")
    found = CliRunner().invoke(app, [*command, "--checkpoint", f"{web}/none.pt{QUERY}"])
    assert found.exit_code == 1
    assert "none.pt" in found.output
    check_nothing_is_told(out, found.output)


def test_a_recipe_keeps_its_secrets_to_itself() -> None:
    url = f"https://user:PASSWORD@host/x.pt{QUERY}"
    recipe = RECIPE.model_copy(update={"checkpoint": url})
    shown = [repr(recipe), str(recipe), recipe.model_dump_json(), str(recipe.model_dump())]
    check_nothing_is_told(Path("nowhere"), *shown)
    assert recipe.model_dump()["checkpoint"] == "https://host/x.pt"
    # Workers need it as it is.
    copy: Recipe = pickle.loads(pickle.dumps(recipe))
    assert copy.checkpoint == recipe.checkpoint == url


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://u:p@h/a.jpg?s=1: not found", "https://h/a.jpg: not found"),
        ("https://u:p@ss@h:8/a.jpg#t", "https://h:8/a.jpg"),
        ("https://token@h/a.jpg", "https://h/a.jpg"),
        ("(http://h/a?b/c=d), and HTTPS://h/?q.", "(http://h/a), and HTTPS://h/."),
        ("url=URL('https://h/a?s=1')", "url=URL('https://h/a')"),
        ("s3://key:secret@bucket/a.jpg", "s3://bucket/a.jpg"),
        ("s3://bucket/what?.jpg and s3://b/a#1.jpg", "s3://bucket/what?.jpg and s3://b/a#1.jpg"),
        ("abfs://box@account.net/a@b.jpg", "abfs://box@account.net/a@b.jpg"),
        ("s3://bucket/a@b.jpg", "s3://bucket/a@b.jpg"),
        ("is this so? a#1 user@host c:/d?e", "is this so? a#1 user@host c:/d?e"),
        ("gs://b/*.jp?g", "gs://b/*.jp?g"),
    ],
)
def test_texts(text: str, shown: str) -> None:
    assert without_secrets(text) == printable(text) == str(InputError(text)) == shown
    assert str(pickle.loads(pickle.dumps(ImageError(text)))) == shown


def test_parts_of_urls() -> None:
    url = Url("https://h/in/a.tar?x=/b.jpg#c")
    assert (url.name, url.parent) == ("a.tar", "https://h/in")
    assert (Url("s3://b/a?b#c.jpg").name, Url("s3://b/a?b/c").parent) == ("a?b#c.jpg", "s3://b/a?b")


def test_two_urls_that_differ_in_the_query_alone(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("https://h/get?id=1\nhttps://h/get?id=2\n")
    with pytest.raises(InputError, match="give names in a column `name`"):
        list(list_images([listed]))
    listed = tmp_path / "list.csv"
    listed.write_text("uri,name\nhttps://h/get?id=1,one.jpg\nhttps://h/get?id=2,two.jpg\n")
    assert [source.name for source in list_images([listed])] == ["one.jpg", "two.jpg"]
