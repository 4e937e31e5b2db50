"""How the commands of `everything.cli` and of `everything.batch_jobs` report errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from everything.errors import ConfigError, EverythingError, InputError


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Print an EverythingError as one line on stderr and exit: 2 for a wrong option, setting or
    input, 1 for any other, 130 for an interrupt."""
    try:
        yield
    except EverythingError as error:
        typer.secho(f"everything: {error}", err=True, fg="red")
        raise typer.Exit(2 if isinstance(error, ConfigError | InputError) else 1) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(130) from error
