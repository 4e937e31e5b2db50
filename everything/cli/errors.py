"""How commands show errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from everything.errors import ConfigError, EverythingError, InputError


@contextmanager
def errors_shown() -> Iterator[None]:
    """Show errors that users can mend as one line, without a traceback, and end with their code."""
    try:
        yield
    except EverythingError as error:
        typer.secho(f"everything: {error}", err=True, fg="red")
        raise typer.Exit(2 if isinstance(error, ConfigError | InputError) else 1) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(130) from error
