"""Jobs from and to an S3 server behind a line that resets, refuses and hangs."""

from __future__ import annotations

import itertools
import os
import select
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from everything.errors import EverythingError
from everything.io.storage import locations
from everything.io.storage.locations import Url, filesystem
from tests.fakes import save_photo
from tests.io.storage.test_object_store import photos_at, results, run
from tests.s3 import s3_server

pytestmark = pytest.mark.filterwarnings(
    "ignore:datetime.datetime.utcnow:DeprecationWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",  # sockets that the line has cut
)
SLOW_DOWN = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: 87\r\n"
    b"Connection: close\r\n\r\n"
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
ERROR = SLOW_DOWN.replace(b"503 Slow Down", b"500 Oops")
# Of connections: two good ones after each bad one, since some steps ask twice.
KINDS = (0, 4, 4, 1, 4, 4, 2, 4, 4, 3, 4, 4)


class Line:
    """A line to a server. faults: whether some of its connections end badly. down: all do."""

    def __init__(self, server: str) -> None:
        self.faults, self.down, self.seen = False, False, {"reset": 0, "refused": 0, "hung": 0}
        self._to = (urlsplit(server).hostname, urlsplit(server).port)
        self._kinds, self._lock = itertools.cycle(KINDS), threading.Lock()

    def carry(self, client: socket.socket) -> None:
        """Carry one connection to its end, good or bad."""
        with self._lock:
            kind = next(self._kinds) if self.faults else 4
        if self.down or kind == 0:
            self._reset(client)
        elif kind in (1, 2):
            client.recv(65536)
            client.sendall(SLOW_DOWN if kind == 1 else ERROR)
            self.seen["refused"] += 1
        elif kind == 3:
            client.recv(65536)
            self.seen["hung"] += 1
            time.sleep(1.0)  # longer than anyone is to wait
        else:
            # Cut somewhere within a request or an answer, so that there are new connections.
            self._splice(client, 20_000 if self.faults else 2**40)

    def _splice(self, client: socket.socket, most: int) -> None:
        with socket.create_connection(self._to) as server:
            while not self.down:
                ready, _, _ = select.select([client, server], [], [], 0.2)
                for end in ready:
                    data = end.recv(2048)
                    if not data:
                        return
                    (server if end is client else client).sendall(data)
                    most -= len(data)
                if most < 0:
                    break
        self._reset(client)

    def _reset(self, client: socket.socket) -> None:
        self.seen["reset"] += 1
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def bad_line(server: str) -> Iterator[Line]:
    """Put a line between this process and the server that it calls S3."""
    line = Line(server)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):  # the client was faster
                line.carry(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def shutdown_request(self, request: socket.socket) -> None:
            request.close()

    with Server(("127.0.0.1", 0), Handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{proxy.server_address[1]}"
        locations._filesystem.cache_clear()
        try:
            yield line
        finally:
            proxy.shutdown()


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setattr(locations, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(locations, "_SILENCE", 0.5)
    with s3_server() as server, bad_line(server) as line:
        files, _ = filesystem(Url("s3://bad-line"))
        if not files.exists("bad-line"):
            files.mkdir("bad-line")
        yield line


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(6):
        save_photo(tmp_path / f"photos/{number % 2}/{number}.jpg", number)
    (tmp_path / "photos/0/broken.jpg").write_bytes(b"no photo")
    run(tmp_path / "photos", tmp_path / "undisturbed")
    return tmp_path / "photos"


def test_bad_minutes_are_waited_out(line: Line, photos: Path) -> None:
    root = Url("s3://bad-line/a")
    there = photos_at(root, photos)
    line.faults = True
    summary = run(there, root / "out")
    line.faults = False
    assert (summary.done, summary.failed) == (6, 1)
    assert results(root / "out") == results(photos.parent / "undisturbed")
    assert min(line.seen.values()) >= 1, line.seen


def test_a_store_that_goes_away_is_an_error_and_the_job_goes_on_later(
    line: Line, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Url("s3://bad-line/b")
    there = photos_at(root, photos)
    monkeypatch.setattr(locations, "_TRIES", 3)
    line.down = True
    began = time.monotonic()
    with pytest.raises(EverythingError) as caught:
        run(there, root / "out")
    assert time.monotonic() - began < 20
    assert "\n" not in str(caught.value)
    assert "bad-line" in str(caught.value)
    line.down = False
    assert run(there, root / "out").done == 6
    assert results(root / "out") == results(photos.parent / "undisturbed")
