"""A wrong address of a cluster is reported within seconds, before anything is written."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from everything.batch_jobs.annotate import app as annotate
from everything.cli.main import app
from everything.errors import JobError
from everything.jobs.ray_address import (
    address_to_join,
    check_address,
    described_address,
    resolved_address,
)
from tests.fakes import save_photo


@pytest.fixture
def nothing() -> str:
    """An address at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@contextmanager
def server(answer: bytes, wait: float = 0) -> Iterator[str]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(100)
            time.sleep(wait)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize("command", ["label", "annotate"])
def test_a_wrong_ray_address_is_named_within_seconds(
    command: str, nothing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_photo(tmp_path / "photos/a.jpg")
    photos, out = str(tmp_path / "photos"), tmp_path / "out"
    monkeypatch.setenv("RAY_ADDRESS", nothing)
    start = time.monotonic()
    if command == "label":
        found = CliRunner().invoke(app, ["label", photos, "--out", str(out), "--ray"])
    else:
        found = CliRunner().invoke(annotate, ["--input", photos, "--out", str(out)])
    assert time.monotonic() - start < 60  # most of it is importing Ray
    assert found.exit_code == 1
    assert f"Ray at {nothing} (RAY_ADDRESS): connection refused" in found.output
    assert "this machine" not in found.output
    assert not out.exists()


def test_an_address_that_is_given_is_the_one_that_is_used(
    nothing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    assert resolved_address(nothing) == described_address(nothing) == nothing
    assert described_address(None) == "elsewhere:6379 (RAY_ADDRESS)"
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert (resolved_address(None), described_address(None)) == (None, "this machine")
    check_address(None)
    check_address("auto")


@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_what_is_not_ray_is_no_cluster(prefix: str) -> None:
    with server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        start = time.monotonic()
        with pytest.raises(JobError, match=rf"{address}: something else than Ray answers"):
            check_address(prefix + address)
    assert time.monotonic() - start < 20
    with server(b"") as address, pytest.raises(JobError, match="something else than Ray"):
        check_address(prefix + address)


def test_a_host_that_does_not_exist() -> None:
    with pytest.raises(JobError, match=r"Ray at no\.such\.host\.invalid:6379: .+: correct the"):
        check_address("no.such.host.invalid:6379")


def test_what_talks_as_grpc_does_passes() -> None:
    with server(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])) as address:
        check_address(address)
        check_address(f"ray://{address}")


def test_a_cluster_of_this_machine_that_is_gone_is_not_waited_for(
    nothing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert address_to_join(None) is None
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray/ray_current_cluster").write_text(nothing)
    assert address_to_join(None) == "local"
