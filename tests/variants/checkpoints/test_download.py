"""Downloads over a real connection, as it is and as it should not be."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest
import torch

from everything.errors import WeightsError
from everything.variants.checkpoints import download
from everything.variants.checkpoints.download import fetch
from everything.variants.checkpoints.reader import read_state
from everything.variants.checkpoints.weights import Weights, sha256

STATE = {"w": torch.arange(50_000.0)}


def archive(name: str, content: bytes) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, content)
    return buffer.getvalue()


def checkpoint() -> bytes:
    buffer = BytesIO()
    torch.save(STATE, buffer)
    return buffer.getvalue()


PAGES = {
    "/tiny.pth": checkpoint(),
    "/cut.pth": checkpoint(),
    "/page.pth": b"<html>Sign in to see this file</html>",
    "/page.safetensors": b"<html>Sign in to see this file</html>",
    "/empty.pth": b"",
    "/tiny.pt.zip": archive("folder/tiny.pt", checkpoint()),
    "/other.pt.zip": archive("readme.txt", b"no weights"),
    "/html.pt.zip": b"<html>",
}


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = PAGES.get(self.path)
        if content is None:
            self.send_error(404, "Not Found")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.path == "/cut.pth" else content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_file_is_fetched_once_with_a_bar(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    weights = Weights(f"{site}/tiny.pth")
    path = weights.path()
    assert path == tmp_path / "checkpoints" / "tiny.pth"
    assert torch.equal(read_state(path)["w"], STATE["w"])
    assert "tiny.pth" in capsys.readouterr().err
    monkeypatch.setattr(download, "_download", None)
    assert Weights(f"{site}/tiny.pth", sha256(path)).path() == path
    assert weights.digest() == sha256(path)


@pytest.mark.parametrize(
    ("page", "error"),
    [
        ("cut.pth", r"cut\.pth: cannot be fetched \(the connection ended after \d+ of \d+ bytes"),
        ("none.pth", r"none\.pth: cannot be fetched \(Not Found\): copy it to .*--checkpoint"),
        ("page.pth", r"page\.pth: not a checkpoint"),
        ("page.safetensors", r"page\.safetensors: not a checkpoint"),
        ("empty.pth", r"empty\.pth: not a checkpoint"),
        ("other.pt.zip", r"other\.pt\.zip: the archive has no other\.pt"),
        ("html.pt.zip", r"html\.pt\.zip: not a readable archive"),
    ],
)
def test_what_is_not_whole_or_no_checkpoint_leaves_nothing(
    site: str, tmp_path: Path, page: str, error: str
) -> None:
    with pytest.raises(WeightsError, match=error) as raised:
        fetch(f"{site}/{page}", tmp_path / page.removesuffix(".zip"))
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_hash_leaves_nothing(site: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"tiny\.pth: its SHA-256 is"):
        fetch(f"{site}/tiny.pth", tmp_path / "tiny.pth", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_is_unpacked(site: str, tmp_path: Path) -> None:
    fetch(f"{site}/tiny.pt.zip", tmp_path / "tiny.pt")
    assert torch.equal(read_state(tmp_path / "tiny.pt")["w"], STATE["w"])
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.pt"]


def test_nobody_answering_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot be fetched .*use --variant ucm"):
        fetch("http://127.0.0.1:9/tiny.pth", tmp_path / "tiny.pth")


def test_a_cache_that_cannot_be_written_is_one_line(site: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"tiny\.pth: cannot be written \("):
        fetch(f"{site}/tiny.pth", tmp_path / "file" / "tiny.pth")
