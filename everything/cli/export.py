"""Commands that hand labels over: `everything export` and `everything import`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from everything.cli.errors import errors_shown
from everything.cli.evaluate import WROTE
from everything.cli.options import Json

_FORMATS = "coco, yolo-seg, label-studio, cvat, voc-png, panoptic or geojson"


def export(
    labels: Annotated[str, typer.Argument(metavar="LABELS", help=WROTE)],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help=f"{_FORMATS}.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Appears when all is done.")],
    photos: Annotated[
        Literal["none", "link", "copy"] | None,
        typer.Option(help="Place photos, too; links where the format needs them if not given."),
    ] = None,
    photos_from: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the photos are, if moved.")
    ] = None,
    level: Annotated[
        Literal["all", "whole", "part", "subpart"],
        typer.Option(help="Only masks that are wholes, parts of wholes, or deeper inside."),
    ] = "all",
    polygons: Annotated[bool, typer.Option("--polygons", help="In COCO, not run lengths.")] = False,
    tolerance: Annotated[
        float, typer.Option(metavar="PX", help="How far polygons may be off to have fewer corners.")
    ] = 0.0,
    url: Annotated[
        str, typer.Option(metavar="PREFIX", help="Of photos, for label-studio.")
    ] = "/data/local-files/?d=",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an export that is there.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write labels for another tool, and say how close to the masks they are (IoU)."""
    with errors_shown():
        from everything.export import export as write
        from everything.io.storage.locations import located
        from everything.jobs.progress import counted

        with counted("photos", Console(stderr=True)) as told:
            tally = write(
                located(labels),
                to,
                out,
                photos=photos,
                home=located(photos_from) if photos_from else None,
                level=level,
                polygons=polygons,
                tolerance=tolerance,
                url=url,
                overwrite=overwrite,
                progress=told,
            )
    if as_json:
        typer.echo(json.dumps(tally.to_json(), indent=2))
    else:
        Console().print(tally.table(), highlight=False)
        typer.echo(out)


def import_(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SRC", help="SA-1B tars, folders of them, COCO files.")
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="LABELS", help="A results folder, or a bucket.")
    ],
    photos: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the photos are; those in tars are unpacked there."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring labels of others into a results folder, for report, evaluate and export."""
    with errors_shown():
        from everything.io.storage.locations import located
        from everything.jobs.import_labels import import_labels
        from everything.jobs.progress import counted

        console = Console(stderr=True)
        with counted("bytes", console) as told:
            done = import_labels(sources, located(out), photos, told)
    if as_json:
        typer.echo(json.dumps(done.to_json(), indent=2))
    else:
        Console().print(done.table(), highlight=False)
        for reason in done.failures:
            console.print(reason, style="red", highlight=False, markup=False)
    raise typer.Exit(3 if done.failed else 0)
