"""Commands that hand labels over: `everything export` and `everything import`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from everything.cli_errors import errors_shown
from everything.cli_results import Json

_Format = Literal["coco", "yolo-seg", "label-studio", "cvat", "voc-png", "panoptic", "geojson"]


def export(
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS", help="What [b]everything label[/b] wrote.")
    ],
    to: Annotated[_Format, typer.Option("--to", help="The format.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Appears when all is done.")],
    photos: Annotated[
        Literal["none", "link", "copy"] | None,
        typer.Option(help="Place photos, too; links where the format needs them if not given."),
    ] = None,
    photos_from: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the photos are, if moved.")
    ] = None,
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
        from rich.progress import Progress

        from everything.export import export as write

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("photos")
            tally = write(
                labels,
                to,
                out,
                photos=photos,
                home=photos_from,
                polygons=polygons,
                tolerance=tolerance,
                url=url,
                overwrite=overwrite,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    if as_json:
        typer.echo(json.dumps(tally.to_json(), indent=2))
    else:
        Console().print(tally.table(), highlight=False)
        typer.echo(out)
