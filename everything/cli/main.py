"""The command line: its commands, each with its options and help texts.

Nothing heavy is imported before a command runs, so that --help answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from everything.cli.bench import bench
from everything.cli.catalogue import configs, samplers, settings, variants
from everything.cli.compare import compare
from everything.cli.defaults import Command
from everything.cli.doctor import doctor
from everything.cli.evaluate import evaluate, report
from everything.cli.export import export, import_
from everything.cli.filter import filter_
from everything.cli.label import EPILOG, label
from everything.cli.quantize import quantize
from everything.cli.ray_option import CommandWithRay
from everything.cli.status import status
from everything.cli.train import train

app = typer.Typer(
    name="everything",
    help="Segment everything, in bulk: a mask for every object in every image of a folder, "
    "in SA-1B's format, with any SAM variant.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command(cls=CommandWithRay, epilog=EPILOG)(label)
for command in (bench, compare, evaluate, report, export):
    app.command(cls=Command)(command)
app.command(name="import", cls=Command)(import_)
app.command(name="filter", cls=Command)(filter_)
app.command(cls=Command)(quantize)
app.add_typer(train, name="train")
for command in (status, doctor, variants, samplers, configs, settings):
    app.command(cls=Command)(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"everything {version('segevery')}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass
