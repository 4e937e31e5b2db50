"""The console on which progress is shown: a terminal's, a notebook's, or a file's."""

from __future__ import annotations

from importlib.util import find_spec

from rich.console import Console


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
