"""The command line of jobs on a cluster, and of how far any job is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

from everything.cli_errors import errors_shown
from everything.cli_options import Json

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

        from everything.places import located
        from everything.status import status as read

        found = read(located(out))
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        Console().print(found.table(), highlight=False)


def photos_in(inputs: list[str], out: str, limit: int | None = None) -> Any:
    """Return what lists the photos, the first `limit` of them, of inputs that may also be URLs;
    raises InputError."""
    from itertools import islice

    from everything.listing import list_photos
    from everything.places import located

    places = [located(text) for text in inputs]
    return lambda: islice(list_photos(places, located(out)), limit)


def home_of(out: str) -> Any:
    """Return where results go: a path that every machine of a cluster sees alike, or a URL."""
    from everything.places import located

    place = located(out)
    return place.absolute() if isinstance(place, Path) else place
