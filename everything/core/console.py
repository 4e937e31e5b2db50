"""The console on which progress is shown: a terminal's, a notebook's, or a file's; a spinner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from rich.console import Console
from rich.status import Status

_shown: list[Status] = []  # spinners; one at a time


def progress_console(quiet: bool = False) -> Console:
    """Return a console that writes to stderr.

    In a notebook rich draws with ipywidgets; without them it would show a warning at each update,
    so that the bar is drawn with a terminal's control characters, which notebooks know.

    Args:
        quiet: Show nothing.
    """
    console = Console(stderr=True, quiet=quiet)
    if console.is_jupyter and find_spec("ipywidgets") is None:
        return Console(stderr=True, quiet=quiet, force_jupyter=False, force_terminal=True)
    return console


@contextmanager
def spinner(text: str, console: Console) -> Iterator[None]:
    """Show a spinner with a text until the context ends, or a bar takes its place."""
    with console.status(text) as status:
        _shown.append(status)
        try:
            yield
        finally:
            _shown.remove(status)


def stop_spinner() -> None:
    """Take the spinner away, before something else, such as the bar of a download, is drawn."""
    for status in _shown:
        status.stop()
