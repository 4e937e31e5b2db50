"""`everything export` and `everything import`: annotations in other formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from everything.cli import completion
from everything.cli.evaluate import LABELS_HELP
from everything.cli.messages import Messages, loading
from everything.cli.option_groups import with_option_groups
from everything.cli.options import Json, Masks
from everything.export import EXPORTERS
from everything.jobs.command_errors import exit_on_error

# The built-in ones: plugins are imported when one is used, not with every command.
_FORMATS = f"{', '.join(EXPORTERS.builtin)}, or one that a plugin adds"


@with_option_groups
def export(
    labels: Annotated[str, typer.Argument(metavar="LABELS", help=LABELS_HELP)],
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="FORMAT", help=f"Format: {_FORMATS}.", autocompletion=completion.formats
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Output folder (written atomically).")
    ],
    masks: Masks,
    messages: Messages,
    photos: Annotated[
        Literal["none", "link", "copy"] | None,
        typer.Option(
            help="Also place the images in DIR: as links, as copies, or not.",
            show_default="link if the format needs the images, copy if it holds them, else none",
        ),
    ] = None,
    photos_from: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the images, if they have moved since.",
            show_default="where they were",
        ),
    ] = None,
    polygons: Annotated[
        bool,
        typer.Option(
            "--polygons",
            help="COCO only: write polygons instead of run-length codes.",
            show_default="off",
        ),
    ] = False,
    tolerance: Annotated[
        float,
        typer.Option(
            metavar="PX", help="Simplify polygons: how far (px) they may deviate from the outline."
        ),
    ] = 0.0,
    url: Annotated[
        str, typer.Option(metavar="PREFIX", help="label-studio only: URL prefix of the images.")
    ] = "/data/local-files/?d=",
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace an earlier export in DIR.", show_default="off"),
    ] = False,
    max_pixels: Annotated[
        int,
        typer.Option(
            min=1,
            help="Leave out images, or masks whose bounding boxes, are larger than this (px): "
            "images in voc-png, panoptic and mask-png, masks elsewhere. Bounds the memory; COCO's "
            "run lengths need no limit.",
        ),
    ] = 100_000_000,
    as_json: Json = False,
) -> None:
    """Export annotations to another format, and report how exactly it holds the masks (IoU)."""
    with exit_on_error():
        console = messages.console()
        with loading(console):
            from everything.export.run import export as write
            from everything.io.storage.locations import located
            from everything.jobs.progress import show_count

        keep = masks.filter()
        with show_count("images", console) as show:
            fidelity = write(
                located(labels),
                to,
                out,
                photos=photos,
                home=located(photos_from) if photos_from else None,
                keep=keep,
                polygons=polygons,
                tolerance=tolerance,
                url=url,
                overwrite=overwrite,
                max_pixels=max_pixels,
                progress=show,
            )
    if as_json:
        typer.echo(json.dumps(fidelity.to_json(), indent=2))
    elif not messages.quiet:
        Console().print(fidelity.table(), highlight=False)
        typer.echo(out)
    raise typer.Exit(3 if fidelity.unreadable else 0)


@with_option_groups
def import_(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SRC",
            help="SA-1B: .tar archives, folders of them or of JSON files. COCO: the JSON file. "
            "YOLO-seg: data.yaml, or its folder. CVAT for images: annotations.xml, or its folder.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="LABELS", help="Results folder to write, or its bucket URL."
        ),
    ],
    messages: Messages,
    photos: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the images. Images inside .tar archives are unpacked into it, which "
            "must be new, empty or of an earlier import.",
            show_default="beside the annotations; nothing is unpacked",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Import annotations of other tools into a results folder, for report, evaluate and export."""
    with exit_on_error():
        console = messages.console()
        with loading(console):
            from everything.io.storage.locations import located
            from everything.jobs.import_labels import import_labels
            from everything.jobs.progress import show_count

        with show_count("bytes", console) as show:
            done = import_labels(sources, located(out), photos, show)
    if as_json:
        typer.echo(json.dumps(done.to_json(), indent=2))
    else:
        errors = Console(stderr=True)
        if not messages.quiet:
            Console().print(done.table(), highlight=False)
        for line in done.tally.lines():
            errors.print(line, highlight=False, markup=False)
        for reason in done.failures:
            errors.print(reason, style="red", highlight=False, markup=False)
    raise typer.Exit(3 if done.failed else 0)
