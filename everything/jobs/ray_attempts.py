"""Notes that tell a Ray worker which images may have crashed the previous one.

An image can crash its worker (a decoder's bug, memory, a lost machine). Ray then runs its block
again in another worker, which must know: a note is written beside the results before a block is
begun and deleted when it is done, so a worker that finds a note knows that another one crashed.

Only crashes during a job count. When a job ends in the middle (Ctrl-C, a killed driver), so do its
workers, and no image is the cause: the next job keeps the crashes that were counted by then, and
does not count that end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence

from everything.io.storage.storage import Storage
from everything.jobs.annotator import Task
from everything.jobs.worker_pool import RETRIES

ATTEMPTS = "attempts"


class Attempts:
    """The note of one block of images: in how many crashes each of them was involved."""

    def __init__(self, folder: Storage, tasks: Sequence[Task]) -> None:
        self._folder = folder
        self.crashes = {task.source.name: task.crashes for task in tasks}
        content = "\0".join(self.crashes).encode("utf-8", "surrogateescape")
        self._note = f"{ATTEMPTS}/{hashlib.sha256(content).hexdigest()[:32]}.json"

    def begin(self) -> bool:
        """Note that the block is begun; return whether a worker crashed with it before."""
        before = _with_last_crash(self._folder, self._note)
        self.crashes |= before
        self._write(None)
        return bool(before)

    def on_trial(self, tasks: Iterator[Task]) -> Iterator[Task]:
        """Yield tasks, each noted as the one that is being tried."""
        for task in tasks:
            self._write(task.source.name)
            yield task

    def end(self) -> None:
        """Delete the note: the block is done."""
        self._folder.delete(self._note)

    def _write(self, on_trial: str | None) -> None:
        note = {"deaths": self.crashes, "on_trial": on_trial}
        self._folder.write(self._note, [json.dumps(note).encode("ascii")])


def is_given_up(crashes: int) -> bool:
    """Return whether an image was in too many crashes to be tried again."""
    return crashes > RETRIES


def take_crash_counts(folder: Storage) -> dict[str, int]:
    """Return the crashes, counted before it ended, of each image that an earlier job was at work
    on; delete its notes."""
    counts: dict[str, int] = {}
    notes = folder.list(ATTEMPTS, ".json")
    for note in notes:
        for name, crashes in _read(folder, note)[0].items():
            counts[name] = max(crashes, counts.get(name, 0))
    folder.remove(notes)
    return {name: crashes for name, crashes in counts.items() if crashes}


def _with_last_crash(folder: Storage, note: str) -> dict[str, int]:
    """The crashes of the images of a note, including the one that left it behind: it counts for
    the image that was being tried alone, or for all of the block."""
    crashes, on_trial = _read(folder, note)
    suspects = crashes if on_trial is None else {on_trial}
    return {name: count + (name in suspects) for name, count in crashes.items()}


def _read(folder: Storage, note: str) -> tuple[dict[str, int], str | None]:
    """The crashes by image that a note has, and the image that was being tried alone."""
    try:
        content = json.loads(folder.read(note) or b"null")
        if content is None:
            return {}, None
        crashes = {name: int(count) for name, count in dict(content["deaths"]).items()}
        return crashes, content["on_trial"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}, None
