"""`everything filter`: thresholds and levels after the fact."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from everything.cli.evaluate import LABELS_HELP
from everything.cli.messages import Messages, loading
from everything.cli.option_groups import with_option_groups
from everything.cli.options import Json, Masks
from everything.jobs.command_errors import exit_on_error


@with_option_groups
def filter_(
    labels: Annotated[str, typer.Argument(metavar="LABELS", help=LABELS_HELP)],
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Results folder to write, or its bucket URL."
        ),
    ],
    masks: Masks,
    messages: Messages,
    photos: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the images, if they have moved since.",
            show_default="where they were",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace earlier results in DIR.", show_default="off"),
    ] = False,
    max_pixels: Annotated[
        int,
        typer.Option(
            min=1,
            help="With label maps: leave out images larger than this (px). Bounds the memory.",
        ),
    ] = 100_000_000,
    as_json: Json = False,
) -> None:
    """Write those masks that pass thresholds, a level or a review to a new results folder.

    Nothing is labelled again. `report`, `evaluate` and `export` have the same options.
    """
    with exit_on_error():
        console = messages.console()
        with loading(console):
            from everything.io.storage.locations import located
            from everything.jobs.filter_labels import filter_labels
            from everything.jobs.progress import show_count

        keep = masks.filter()
        with show_count("images", console) as show:
            done = filter_labels(
                located(labels), located(out), keep,
                images=located(photos) if photos else None, overwrite=overwrite,
                max_pixels=max_pixels, progress=show,
            )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(asdict(done), indent=2))
    elif not messages.quiet:
        kept = f"{done.masks:,} of {done.masks + done.filtered_out:,} masks"
        failed = f", {done.failed:,} images without result: they failed" if done.failed else ""
        rejected = f", {done.photos_left_out:,} images left out: reviewed"
        left_out = f", {done.unreadable:,} left out" if done.unreadable else ""
        left_out += rejected if done.photos_left_out else ""
        typer.echo(f"{out}: {done.photos:,} images, {kept}{failed}{left_out}")
    raise typer.Exit(3 if done.unreadable else 0)
