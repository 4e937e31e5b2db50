"""Nothing goes to the network unless a download or a bucket was asked for; nobody is told of use.

Every process of the commands has a guard that fails and notes whatever would leave this machine,
name look-ups included; where the kernel allows it, they have no network at all besides.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.fakes import save_photo
from tests.yolo import random_yolo, write_yolo

GUARD = """
import os, sys

def guard(event, args):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        where = args[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        where = args[1] if len(args) > 1 else None
    else:
        return
    host = where[0] if isinstance(where, tuple) else where
    if isinstance(where, tuple) or event.startswith("socket.get"):
        if host not in ("127.0.0.1", "::1", "localhost", "", None, b"localhost"):
            with open(os.environ["GUARD_LOG"], "a") as file:
                file.write(f"{event} {where!r} by {sys.argv}\\n")
            raise OSError(f"the network was not asked for: {event} {where!r}")

sys.addaudithook(guard)
"""
JOB = """
import sys, json, time
from everything.cli.main import app
for command in json.loads(sys.argv[1]):
    began = time.monotonic()
    code = app(command, standalone_mode=False)
    print(command[:2], code, round(time.monotonic() - began, 1), file=sys.stderr)
    assert not code, command
"""
RAY = """
from everything.jobs.ray_cluster import connected
with connected(None):
    from ray._common.usage import usage_lib
    assert not usage_lib.usage_stats_enabled()
"""


@pytest.fixture
def guarded(tmp_path: Path) -> dict[str, str]:
    """An environment in which every Python process has the guard."""
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
    path = os.pathsep.join([str(tmp_path / "guard"), str(Path.cwd()), *sys.path])
    log = {"GUARD_LOG": str(tmp_path / "guard.log"), "PYTHONPATH": path, "HOME": str(tmp_path)}
    ours = ("HF_", "YOLO_", "RAY_", "DO_NOT_TRACK")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | log


def run(code: str, *arguments: str, environment: dict[str, str]) -> None:
    command = [sys.executable, "-c", code, *arguments]
    if can_be_alone():
        command = ["unshare", "-rn", *command]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    log = Path(environment["GUARD_LOG"])
    assert not log.exists(), log.read_text()
    print(done.stderr)
    assert done.returncode == 0, done.stderr


def can_be_alone() -> bool:
    """Whether a process here may have a network of its own, with nothing in it."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode == 0


def test_the_guard_sees_what_would_leave(guarded: dict[str, str]) -> None:
    attempts = (
        "import socket; socket.create_connection(('192.0.2.1', 80))",
        "import socket; socket.getaddrinfo('example.org', 80)",
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
        "import urllib.request; urllib.request.urlopen('https://example.org')",
    )
    for count, code in enumerate(attempts, 1):
        done = subprocess.run([sys.executable, "-c", code], env=guarded, capture_output=True)
        assert b"the network was not asked for" in done.stderr
        assert len(Path(guarded["GUARD_LOG"]).read_text().splitlines()) >= count


def test_commands_stay_at_home(tmp_path: Path, guarded: dict[str, str]) -> None:
    for number in range(2):
        save_photo(tmp_path / "photos" / f"{number}.jpg", number, (64, 80))
    torch.manual_seed(0)
    yolo = write_yolo(tmp_path / "yolo.pt", random_yolo())
    photos, out = str(tmp_path / "photos"), str(tmp_path / "out")
    few = ["--variant", "nano", "--points-per-side", "4", "--pred-iou-thresh", "0"]
    few += ["--stability-score-thresh", "0"]
    finds = ["--variant", "nano", "--set", f"sampler.detector={yolo}", "--no-preview"]
    finds += ["--set", "sampler.imgsz=64", "--set", "sampler.max_det=5"]
    commands = [
        ["label", photos, "--out", out, *few, "--workers", "2"],
        ["label", photos, "--out", f"{out}-found", "--sampler", "object-aware", *finds],
        ["label", photos, "--out", f"{out}-all", "--sampler", "all-instance", *finds],
        ["report", out, f"{out}-all", "--out", f"{out}-page"],
        ["export", out, "--to", "coco", "--out", f"{out}-coco"],
        ["export", out, "--to", "yolo-seg", "--out", f"{out}-yolo"],
        ["evaluate", out, "--truth", f"{out}-coco/annotations/instances_default.json"],
        ["import", f"{out}-coco/annotations/instances_default.json", "--out", f"{out}-again"],
        ["status", out],
        ["variants"],
        ["samplers"],
    ]
    run(JOB, json.dumps(commands), environment=guarded)
    assert (tmp_path / "out-page" / "index.html").stat().st_size > 1000
    left = {path.name for path in tmp_path.iterdir() if path.name.startswith(".")}
    assert left <= {".cache", ".triton", ".config"}, left
    assert not list(tmp_path.glob(".config/*ltralytics*"))


@pytest.mark.cluster
def test_ray_tells_nobody() -> None:
    """Its statistics are off. (Under the guard Ray does not start, so what else its processes
    look up is not seen here.)"""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", RAY], env=ours, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
