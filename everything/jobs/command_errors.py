"""How the commands of `everything.cli` and of `everything.batch_jobs` report errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from everything.errors import ConfigError, EverythingError, InputError


def _print_line(message: str, exit_code: int) -> None:
    typer.secho(f"everything: {message}", err=True, fg="red")


@contextmanager
def exit_on_error(report: Callable[[str, int], None] | None = None) -> Iterator[None]:
    """Report an EverythingError and exit: 2 for a wrong option, setting or input, 1 for any other,
    130 for an interrupt.

    report: called with the message and the exit code; prints one line on stderr by default.
    """
    try:
        yield
    except EverythingError as error:
        code = 2 if isinstance(error, ConfigError | InputError) else 1
        (report or _print_line)(str(error), code)
        raise typer.Exit(code) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(130) from error
