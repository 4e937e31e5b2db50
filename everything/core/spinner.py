"""A spinner on a terminal while something loads; one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status

_shown: list[Status] = []


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
