"""Weights come to a machine once, however many processes ask at the same time."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import pytest
import torch

from everything.errors import InputError, WeightsError
from everything.io.storage.locations import Url
from everything.io.storage.object_store import ObjectStore
from everything.recipes.build import build
from everything.recipes.resolve import resolve
from everything.variants import VARIANTS
from everything.variants.checkpoints.cache import staged
from everything.variants.checkpoints.weights import sha256

GETS: Counter[str] = Counter()
BUFFER = BytesIO()
torch.save({"w": torch.arange(9.0)}, BUFFER)
CONTENT = BUFFER.getvalue()


class Slow(BaseHTTPRequestHandler):
    """Gives half of a checkpoint, and the other half after a while."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()

    def do_GET(self) -> None:
        GETS[self.path] += 1
        self.do_HEAD()
        self.wfile.write(CONTENT[:100])
        time.sleep(1)
        self.wfile.write(CONTENT[100:])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


ASK = """
import sys, torch
from everything.variants.checkpoints.cache import staged
from everything.variants.checkpoints.weights import Weights
how, url, cache = sys.argv[1:]
torch.hub.get_dir = lambda: cache
sys.stdin.read(1)
print(Weights(url).path() if how == "official" else staged(url))
"""


@pytest.mark.parametrize("how", ["official", "checkpoint"])
def test_two_processes_at_once_fetch_once(site: str, tmp_path: Path, how: str) -> None:
    url = f"{site}/{how}.pth"
    command = [sys.executable, "-c", ASK, how, url, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    answers = []
    for process in both:
        process.stdin.write("x")
        process.stdin.flush()
    for process in both:
        with process:
            answers.append(process.communicate(timeout=60)[0])
    assert answers[0] == answers[1]
    assert Path(answers[0].strip()).read_bytes() == CONTENT
    assert GETS[f"/{how}.pth"] == 1
    assert not list(tmp_path.rglob("*.part"))


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return ObjectStore(Url(f"memory://{uuid4().hex}"))


def test_a_checkpoint_in_a_bucket_is_the_one_on_disk(bucket: ObjectStore) -> None:
    own = VARIANTS["nano"].weights.path()
    bucket.write(own.name, [own.read_bytes()])
    url = f"{bucket.root}/{own.name}"
    far, near = resolve("nano", url), resolve("nano", own)
    assert (far.checkpoint, far.weights, far.digest) == (url, sha256(own), near.digest)
    build(far)
    # What comes to another machine later is not what the job began with.
    copy = staged(url)
    copy.write_bytes(copy.read_bytes() + b"x")
    with pytest.raises(WeightsError, match=r"its SHA-256 is .*memory://"):
        build(far)


def test_one_that_has_changed_at_its_place_is_another_one(bucket: ObjectStore) -> None:
    bucket.write("a.pth", [CONTENT])
    first = staged(f"{bucket.root}/a.pth")
    assert staged(f"{bucket.root}/a.pth", sha256(first)) == first
    bucket.write("a.pth", [CONTENT + b"\0" * 22])
    assert staged(f"{bucket.root}/a.pth") != first


def test_what_is_not_there_or_no_checkpoint(bucket: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"a\.pth: cannot be fetched .*--checkpoint"):
        staged(f"{bucket.root}/a.pth")
    bucket.write("a.pth", [b"<html>"])
    with pytest.raises(WeightsError, match=r"a\.pth: not a checkpoint"):
        staged(f"{bucket.root}/a.pth")
    assert not list(tmp_path.rglob("*.pth"))
    with pytest.raises(InputError, match="cannot be stored there"):
        staged("ssh://host/a.pth")
