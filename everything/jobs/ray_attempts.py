"""What a worker leaves behind for the one that takes over after its death.

A worker can die with a photo (a decoder's crash, memory, a lost machine) and Ray runs its block
again in another one, which must know: before anything of a block is done, a note of it is written
beside the results, and deleted when the block is done. A note that is found says what was lost.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence

from everything.io.storage.bucket import Bucket
from everything.io.storage.local import Folder
from everything.jobs.annotator import Task
from everything.jobs.worker_pool import RETRIES

ATTEMPTS = "attempts"


class Attempts:
    """The notes of one block of photos: how many crashes of workers each has been through."""

    def __init__(self, folder: Folder | Bucket, tasks: Sequence[Task]) -> None:
        self._folder = folder
        self.crashes = {task.source.name: task.crashes for task in tasks}
        content = "\0".join(self.crashes).encode("utf-8", "surrogateescape")
        self._note = f"{ATTEMPTS}/{hashlib.sha256(content).hexdigest()[:32]}.json"

    def begin(self) -> bool:
        """Note that the block is begun, and say whether a worker died with it before."""
        before = _read(self._folder, self._note)
        self.crashes |= before
        self._write(None)
        return bool(before)

    def on_trial(self, tasks: Iterator[Task]) -> Iterator[Task]:
        """Yield tasks, each noted as the one that is tried when it is asked for."""
        for task in tasks:
            self._write(task.source.name)
            yield task

    def end(self) -> None:
        """The block is done: nothing was lost."""
        self._folder.delete(self._note)

    def _write(self, on_trial: str | None) -> None:
        note = {"deaths": self.crashes, "on_trial": on_trial}
        self._folder.write(self._note, [json.dumps(note).encode("ascii")])


def is_given_up(crashes: int) -> bool:
    """Say whether a photo has taken enough workers with it."""
    return crashes > RETRIES


def left_behind(folder: Folder | Bucket) -> dict[str, int]:
    """Return the crashes of each photo that a killed job had in hand, and delete its notes."""
    crashes: dict[str, int] = {}
    for note in folder.list(ATTEMPTS, ".json"):
        crashes |= _read(folder, note)
    folder.remove(ATTEMPTS)
    return crashes


def _read(folder: Folder | Bucket, note: str) -> dict[str, int]:
    """The crashes of a note's photos, with the one that ended it: of the photo that was on trial,
    or of all of them if they were done together."""
    try:
        content = json.loads(folder.read(note) or b"null")
        if content is None:
            return {}
        crashes, on_trial = dict(content["deaths"]), content["on_trial"]
        guilty = crashes if on_trial is None else {on_trial}
        return {name: int(count) + (name in guilty) for name, count in crashes.items()}
    except (ValueError, TypeError, KeyError):
        return {}
