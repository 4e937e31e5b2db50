"""Progress of a job: a bar on a terminal or in a notebook; elsewhere a line every few seconds, or
once a minute while no image is finished."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from everything.config import Recipe
from everything.core.file_names import printable
from everything.io.results.manifest_rows import Row
from everything.jobs.summary import Summary

_EVERY, _SILENT = 5.0, 60.0  # s
_log = logging.getLogger(__name__)


class JobObserver:
    """Hears of what a job does. This one logs each image, at the level of debugging."""

    def started(self, summary: Summary, recipe: Recipe) -> None:
        """Called once, before the first image."""

    def image(self, name: str, row: Row | None) -> None:
        """Called for each image, from any thread. row: None if it was skipped."""
        if not _log.isEnabledFor(logging.DEBUG):
            return
        if row is None:
            _log.debug("%s: skipped: labelled before", printable(name))
        elif row.status == "failed":
            _log.debug("failed: %s", row.error)
        else:
            stages = ", ".join(f"{stage} {value:.2f}" for stage, value in row.seconds.items())
            masks = row.counts.get("masks", 0)
            _log.debug("%s: %d masks, seconds: %s", printable(name), masks, stages)

    def ended(self, summary: Summary) -> None:
        """Called once, after the last image."""


def log_to(console: Console, level: int = logging.INFO) -> None:
    """Send the program's log to the console, in colour on a terminal, in plain lines elsewhere."""
    plain = logging.StreamHandler(console.file)
    plain.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    rich = RichHandler(console=console, show_path=False, show_time=False, markup=False)
    log_by(rich if console.is_terminal else plain, level)


def log_by(handler: logging.Handler, level: int = logging.INFO) -> None:
    """Send the program's log, from a level on, to a handler and nowhere else."""
    logger = logging.getLogger("everything")
    logger.handlers = [handler]
    logger.setLevel(level)
    logger.propagate = False


@contextmanager
def show_progress(summary: Summary, console: Console) -> Iterator[Callable[[], None]]:
    """Show a summary; call the yielded function after each change of it."""
    if console.quiet:
        yield lambda: None
    elif console.is_terminal or console.is_jupyter:
        with _bar(console) as bar:
            bar_id = bar.add_task("", total=summary.images, now="")
            yield lambda: bar.update(bar_id, completed=_finished(summary), now=_line(summary))
    else:
        with _lines(summary) as on_update:
            yield on_update


@contextmanager
def _lines(summary: Summary) -> Iterator[Callable[[], None]]:
    last, stop = time.monotonic(), Event()

    def log(after: float) -> None:
        nonlocal last
        if time.monotonic() - last >= after:
            last = time.monotonic()
            _log.info("%d/%d images, %s", _finished(summary), summary.images, _line(summary))

    def watch() -> None:
        # A cluster returns whole blocks of images, which can take long, and models load first.
        while not stop.wait(_EVERY):
            log(_SILENT)

    watcher = Thread(target=watch, name="progress", daemon=True)
    watcher.start()
    try:
        yield lambda: log(_EVERY)
    finally:
        stop.set()
        watcher.join()


@contextmanager
def show_count(what: str, console: Console) -> Iterator[Callable[[int, int | None], None]]:
    """Show how much is done; call the yielded function with the number done and the total.

    what: what is counted, such as "images" or "bytes". A total of None is unknown."""
    if console.is_terminal and not console.quiet:
        with _bar(console) as bar:
            bar_id = bar.add_task("", total=None, now=what)
            yield lambda done, total: bar.update(bar_id, completed=done, total=total)
        return
    start = last = time.monotonic()

    def update(done: int, total: int | None) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= _EVERY and done:
            last = now
            line = f"{done:,} {what}"
            if total is not None:
                left = duration((now - start) / done * (total - done))
                line = f"{done:,} of {total:,} {what}, {left} left"
            console.print(line, highlight=False, markup=False)

    yield update


def _bar(console: Console) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[now]}"))
    return Progress(*columns, console=console, transient=True)


def _finished(summary: Summary) -> int:
    return summary.done + summary.failed + summary.skipped


def _line(summary: Summary) -> str:
    parts = [f"{summary.images_per_second:.2f} images/s"]
    if summary.seconds_left is not None:
        parts.append(f"{duration(summary.seconds_left)} left")
    parts.append(f"{summary.masks:,} masks")
    if summary.failed:
        parts.append(f"{summary.failed:,} failed")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return seconds as hours:minutes:seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
