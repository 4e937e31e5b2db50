"""What commands print beside their result: `--quiet`, `--verbose`, the program's log, a spinner."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console

from everything.cli.option_groups import OptionGroup

PANEL = "Messages"


def _option(*name: str, help: str) -> Any:
    return typer.Option(*name, help=help, show_default="off", rich_help_panel=PANEL)


@dataclass(frozen=True)
class Messages(OptionGroup):
    """How much a command that writes files prints."""

    quiet: Annotated[
        bool,
        _option(
            "--quiet", "-q", help="Print only warnings and errors; with --json also the summary."
        ),
    ] = False
    verbose: Annotated[
        bool, _option("--verbose", "-v", help="Also print one line per image, and details.")
    ] = False

    def console(self) -> Console:
        """Return the console for progress, and send the program's log there.

        Raises:
            InputError: Both options are given.
        """
        from everything.errors import InputError

        if self.quiet and self.verbose:
            raise InputError("--quiet and --verbose: give one of them")
        return console_for(self.quiet, self.verbose)


@dataclass(frozen=True)
class ScoreMessages(Messages):
    """How much a command whose result is a table prints."""

    quiet: Annotated[
        bool, _option("--quiet", "-q", help="Print only the result, warnings and errors.")
    ] = False


def console_for(quiet: bool, verbose: bool) -> Console:
    """Return the console for progress on stderr, and send the program's log there.

    Args:
        quiet: Show no progress, and of the log only warnings and errors.
        verbose: Show all of the log.
    """
    from everything.jobs.progress import log_to

    console = Console(stderr=True, quiet=quiet)
    if quiet:
        log_to(Console(stderr=True), logging.WARNING)
    else:
        log_to(console, logging.DEBUG if verbose else logging.INFO)
    return console


@contextmanager
def loading(console: Console) -> Iterator[None]:
    """Show a spinner while a command imports PyTorch, which takes seconds."""
    from everything.core.console import spinner

    with spinner("loading PyTorch", console):
        yield
