"""A lease: keeps all but one job from writing to a place in an object store.

Object stores have no locks that are released when their holder dies, so the holder rewrites the
lease object every BEAT seconds. A lease that has not changed for STALE seconds belongs to a dead
job and is taken over; if its process is known to be dead, at once. Clocks of different machines are
never compared. Every writer has checked, at most BEAT seconds before, that the lease is still the
job's. So a job stops if another one took over while it was suspended, and so do workers that have
outlived their job.
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
from everything.errors import StoreError, reason_of
from everything.io.storage.locations import with_retries

BEAT = 5.0  # s
STALE = 240.0  # s; longer than `with_retries` waits, or a bad connection would end jobs
_log = logging.getLogger(__name__)


class Permit:
    """The right of a process to write on behalf of a job, valid while that job holds the lease.

    Args:
        files: The fsspec file system of the lease.
        path: The path of the lease in it.
        root: The URL that the lease protects, for messages.
        job: The ID of the job.
    """

    def __init__(self, files: Any, path: str, root: str, job: str) -> None:
        self.job = job
        self._files, self._path, self._root = files, path, printable(root)
        self._seen = -BEAT

    def check(self) -> None:
        """Check that the job still holds the lease, at most once in BEAT seconds.

        Raises:
            StoreError: The job has lost the lease.
            OSError: The lease cannot be read.
        """
        asked = _now()
        if asked - self._seen >= BEAT:
            self._verify(with_retries(self._content))
            self._seen = asked

    def _content(self) -> bytes | None:
        try:
            content: bytes = self._files.cat_file(self._path)
        except FileNotFoundError:
            return None
        return content

    def _verify(self, content: bytes | None) -> None:
        if not self._is_mine(content):
            gone = "its lease is gone"
            raise self._lost(gone if content is None else f"{_holder(content)} has taken over")

    def _lost(self, reason: str) -> StoreError:
        return StoreError(
            f"{self._root}: this job may no longer write there ({reason}): make sure that no "
            "other job does, then rerun the same command to resume"
        )

    def _is_mine(self, content: bytes | None) -> bool:
        return content is not None and _parsed(content).get("job") == self.job


class Lease(Permit):
    """The lease of a job that runs in this process, with its heartbeat thread."""

    def __init__(self, files: Any, path: str, root: str) -> None:
        super().__init__(files, path, root, uuid.uuid4().hex)
        self._beats = 0
        self._renewed = _now()

    def check(self) -> None:
        """Check as Permit does; a lease that was not renewed for STALE seconds is lost, too."""
        if self._is_overdue():
            raise self._lost(f"it could not renew its lease for {STALE:.0f} s")
        super().check()

    def _is_overdue(self) -> bool:
        return _now() - self._renewed > STALE

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lease while the context is open.

        Raises:
            StoreError: Another job holds it.
            OSError: The store cannot be used.
        """
        stop = Event()
        heartbeat = Thread(target=lambda: self._renew(stop), name="lease", daemon=True)
        try:
            self._acquire()
            heartbeat.start()
            yield
        except BaseException:
            self._release(stop, heartbeat)
            raise
        self._release(stop, heartbeat, retry=True)

    def _acquire(self) -> None:
        found = with_retries(self._content)
        dead = found is not None and self._is_dead(found)
        if not dead:
            # Tried twice: a store that accepts both ignores the condition of the write.
            is_conditional = not (self._create() and self._create())
            found = with_retries(self._content)
            dead = found is None or (self._is_mine(found) and not is_conditional)
        if dead:
            # The last writer holds the lease. During the wait, workers of a dead job notice that
            # they have lost it.
            with_retries(self._write)
            time.sleep(BEAT)
            found = with_retries(self._content)
        if not self._is_mine(found):
            raise self._busy(found)
        self._renewed = _now()

    def _create(self) -> bool:
        """Write the lease if there is none; return False if the store reports that there is one."""
        try:
            self._files.pipe_file(self._path, self._text(), mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            return error.errno != errno.EINVAL  # older s3fs raises this for S3's refusal
        except Exception as error:
            # Not every store and client supports conditional writes; their errors vary.
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
        """Tell whether the job whose lease was found is dead; False if it has ended properly.

        Raises:
            StoreError: The job is alive.
        """
        if _has_died(_parsed(found)):
            _log.warning("%s: taking over from %s, which has died", self._root, _holder(found))
            return True
        _log.warning(
            "%s: %s may be writing here: waiting up to %.0f s for its next heartbeat",
            self._root, _holder(found), STALE,
        )  # fmt: skip
        deadline = _now() + STALE
        while _now() < deadline:
            time.sleep(BEAT / 5)
            now = with_retries(self._content)
            if now is None:
                return False
            if now != found:
                raise self._busy(now)
        return True

    def _busy(self, content: bytes | None) -> StoreError:
        return StoreError(
            f"{self._root}: another job is writing here ({_holder(content or b'')}): "
            "wait until it ends, or give another --out"
        )

    def _renew(self, stop: Event) -> None:
        while not stop.wait(BEAT):
            asked = _now()
            try:
                self._verify(self._content())
                self._write()
                if self._is_overdue():
                    # Suspended since the check, it may have overwritten another job's lease.
                    self._files.rm_file(self._path)
                    return
                self._renewed = asked
            except StoreError:
                return  # `check` raises it in the job's own threads
            except Exception as error:
                # It is tried again until STALE; after that, `check` fails.
                reason = printable(f"{type(error).__name__}: {reason_of(error)}")
                _log.warning("%s: the lease was not renewed (%s)", self._root, reason)

    def _release(self, stop: Event, heartbeat: Thread, retry: bool = False) -> None:
        """Delete the lease if it is this job's; retry: also after transient storage errors."""
        stop.set()
        if heartbeat.ident is not None:
            heartbeat.join()

        def release() -> None:
            if self._is_mine(self._content()):
                self._files.rm_file(self._path)

        try:
            with_retries(release) if retry else release()
        except Exception as error:
            reason = printable(reason_of(error))
            _log.warning("%s: the lease could not be deleted (%s)", self._root, reason)


def _now() -> float:
    """Monotonic seconds that go on while the machine is suspended."""
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
    """Tell whether a process is known to be dead; nothing is known about other machines."""
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
    """The boot and PID namespace in which a process ID is unique; "" if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _birth(pid: int) -> str | None:
    """Start time of a process in the kernel's ticks; "" for a zombie, None if unknown."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "" if state in "ZX" else fields[18]
