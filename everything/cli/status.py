"""`everything status`: the progress of a job."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from everything.cli.options import Json
from everything.jobs.command_errors import exit_on_error


def status(
    out: Annotated[
        str, typer.Argument(metavar="DIR", help="Results folder of the job, or its bucket URL.")
    ],
    as_json: Json = False,
) -> None:
    """Show the progress of a running or finished job.

    Works from any machine that can read the results folder.
    """
    with exit_on_error():
        from dataclasses import asdict

        from everything.io.storage.locations import located
        from everything.jobs.status import status as read

        found = read(located(out))
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        Console().print(found.table(), highlight=False)
