"""The command line of jobs on a cluster, and of how far any job is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

from everything.cli.errors import errors_shown
from everything.cli.options import Json

HERE = "here"
_ADDRESS = re.compile(r"auto|here|(ray://)?[\w.-]+:\d+")


class WithRay(TyperCommand):
    """A command whose option --ray may stand alone, without an address."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the arguments apart."""
        return super().parse_args(ctx, list(_addressed(args)))


def _addressed(args: Iterable[str]) -> Iterator[str]:
    given = False
    for arg in args:
        if given and not _ADDRESS.fullmatch(arg):
            yield HERE
        given = arg == "--ray"
        yield arg
    if given:
        yield HERE


def address_of(ray: str) -> str | None:
    """Return what Ray calls an address: None for RAY_ADDRESS, or else a cluster on this machine."""
    return None if ray == HERE else ray


def status(
    out: Annotated[str, typer.Argument(metavar="DIR", help="What a job writes, also a bucket.")],
    as_json: Json = False,
) -> None:
    """Say how far a job is, running or ended, from any machine that can read its results."""
    with errors_shown():
        from dataclasses import asdict

        from everything.io.storage.locations import located
        from everything.jobs.status import status as read

        found = read(located(out))
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        Console().print(found.table(), highlight=False)
