"""Whose a place in an object store is: one job's, for as long as it renews an object there.

Stores have no locks that end with their holder, so the holder writes its lease anew every BEAT
seconds. A lease that nobody has seen change for STALE seconds is of a dead job and is taken over;
one whose process is known to be dead at once. No two machines' clocks are compared. Everybody who
writes has looked, BEAT before at most, that the lease is still the job's: one that was suspended
while another took over stops, and so do workers that have outlived theirs.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from everything.core.file_names import printable
from everything.errors import StoreError
from everything.io.storage.locations import with_retries

BEAT = 5.0  # s
STALE = 240.0  # s; longer than `patiently` waits for a store, or a bad line would end jobs
_log = logging.getLogger(__name__)


class Permit:
    """What lets a process write: that a job holds the lease. path: of it, in fsspec's `files`."""

    def __init__(self, files: Any, path: str, root: str, job: str) -> None:
        self.job = job
        self._files, self._path, self._root = files, path, printable(root)
        self._seen = -BEAT

    def check(self) -> None:
        """Raise StoreError if the job has lost the lease, and OSError if nobody can say."""
        asked = _now()
        if asked - self._seen >= BEAT:
            self._look(with_retries(self._content))
            self._seen = asked

    def _content(self) -> bytes | None:
        try:
            content: bytes = self._files.cat_file(self._path)
        except FileNotFoundError:
            return None
        return content

    def _look(self, content: bytes | None) -> None:
        if not self._is_mine(content):
            gone = "its lease has gone"
            raise self._lost(gone if content is None else f"{_holder(content)} has taken over")

    def _lost(self, reason: str) -> StoreError:
        return StoreError(
            f"{self._root}: this job no longer has it ({reason}): see that no other job writes "
            "there, then run the same command again, it continues"
        )

    def _is_mine(self, content: bytes | None) -> bool:
        return content is not None and _parsed(content).get("job") == self.job


class Lease(Permit):
    """The lease of a job that runs in this process, and its heartbeat."""

    def __init__(self, files: Any, path: str, root: str) -> None:
        super().__init__(files, path, root, uuid.uuid4().hex)
        self._beats = 0
        self._renewed = _now()

    def check(self) -> None:
        """As of Permit; and not having renewed it for STALE seconds is having lost it."""
        if self._is_overdue():
            raise self._lost(f"it could not renew its lease for {STALE:.0f} s")
        super().check()

    def _is_overdue(self) -> bool:
        return _now() - self._renewed > STALE

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the place until left; raises StoreError if another job does, OSError."""
        stop, heart = Event(), Thread(target=lambda: self._renew(stop), name="lease", daemon=True)
        try:
            self._acquire()
            heart.start()
            yield
        except BaseException:
            self._release(stop, heart)
            raise
        self._release(stop, heart, patience=True)

    def _acquire(self) -> None:
        found = with_retries(self._content)
        dead = found is not None and self._is_dead(found)
        if not dead:
            # Asked twice: a store that lets the same job in twice does not keep the condition.
            keeps = not (self._create() and self._create())
            found = with_retries(self._content)
            dead = found is None or (self._is_mine(found) and not keeps)
        if dead:
            # The last one to write has it. Meanwhile workers of a dead job see that they have not.
            with_retries(self._write)
            time.sleep(BEAT)
            found = with_retries(self._content)
        if not self._is_mine(found):
            raise self._held_by(found)
        self._renewed = _now()

    def _create(self) -> bool:
        """Write the lease if there is none; false if the store says that there is one."""
        try:
            self._files.pipe_file(self._path, self._text(), mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            return error.errno != errno.EINVAL  # what older s3fs makes of S3's refusal
        except Exception as error:
            # Not every store or client knows conditions, and what they raise is an open set.
            _log.debug("%s: no conditional write (%s)", self._root, error)
        return True

    def _write(self) -> None:
        self._files.pipe_file(self._path, self._text())

    def _text(self) -> bytes:
        self._beats += 1
        pid = os.getpid()
        who = {"host": socket.gethostname(), "machine": _machine(), "pid": pid}
        about = {"job": self.job, **who, "birth": _birth(pid), "beats": self._beats}
        return json.dumps(about).encode()

    def _is_dead(self, found: bytes) -> bool:
        """Say whether the job is dead whose lease was found, false if it has ended; raises
        StoreError if it lives."""
        if _has_died(_parsed(found)):
            _log.warning("%s: continued after %s, which has died", self._root, _holder(found))
            return True
        _log.warning(
            "%s: %s may be writing here: waiting for its next sign of life, %.0f s at most",
            self._root, _holder(found), STALE,
        )  # fmt: skip
        deadline = _now() + STALE
        while _now() < deadline:
            time.sleep(BEAT / 5)
            now = with_retries(self._content)
            if now is None:
                return False
            if now != found:
                raise self._held_by(now)
        return True

    def _held_by(self, content: bytes | None) -> StoreError:
        return StoreError(
            f"{self._root}: another job is writing here ({_holder(content or b'')}): "
            "wait for its end, or give another --out"
        )

    def _renew(self, stop: Event) -> None:
        while not stop.wait(BEAT):
            asked = _now()
            try:
                self._look(self._content())
                self._write()
                if self._is_overdue():
                    # Suspended in between, it may have written over what somebody else had.
                    self._files.rm_file(self._path)
                    return
                self._renewed = asked
            except StoreError:
                return  # `check` says so
            except Exception as error:
                # Until STALE there are some tries more, and then `check` looks whose it is.
                reason = printable(" ".join(f"{type(error).__name__}: {error}".split()))
                _log.warning("%s: the lease was not renewed (%s)", self._root, reason)

    def _release(self, stop: Event, heart: Thread, patience: bool = False) -> None:
        """Delete the lease if it is this job's; patience: also where the store has a bad minute."""
        stop.set()
        if heart.ident is not None:
            heart.join()

        def release() -> None:
            if self._is_mine(self._content()):
                self._files.rm_file(self._path)

        try:
            with_retries(release) if patience else release()
        except Exception as error:
            _log.warning("%s: the lease stays behind (%s)", self._root, printable(str(error)))


def _now() -> float:
    """Seconds, also of those that the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        about = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def _holder(content: bytes) -> str:
    about = _parsed(content)
    return printable(f"process {about.get('pid', '?')} on {about.get('host', '?')}")


def _has_died(about: dict[str, Any]) -> bool:
    """Say whether a process is known to be dead; of another machine's nothing is known."""
    pid, machine = about.get("pid"), about.get("machine")
    if not machine or machine != _machine() or not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    birth = _birth(pid)
    return birth is not None and birth != about.get("birth")


def _machine() -> str:
    """Within what a process has its number: a boot and a namespace; "" where it cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _birth(pid: int) -> str | None:
    """When a process began, in the kernel's ticks, "" if only its parent has not noticed that it
    ended; None where it cannot be told."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "" if state in "ZX" else fields[18]
