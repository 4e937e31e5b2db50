"""`everything quantize`: an encoder of 8-bit integers from one of floats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from everything.cli.errors import errors_shown


def quantize(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT", help="Photos like those to be labelled.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A .safetensors file.")],
    variant: Annotated[str, typer.Option(help="tinysam, or mobilesam.")] = "tinysam",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Its weights, if you have them already.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Photos to see ranges on.")] = 16,
) -> None:
    """Make the weights of q-tinysam: an image encoder that computes in integers, on CPUs."""
    with errors_shown():
        from everything.io.images.decode import read_image
        from everything.io.images.sources import list_inputs
        from everything.variants.quantize import quantize_tinysam

        photos = (read_image(source.path).pixels for source in list_inputs(inputs))
        made = quantize_tinysam(photos, out, variant=variant, checkpoint=checkpoint, limit=limit)
        typer.echo(str(made))
        typer.echo(f"everything label PHOTOS --out labels --variant q-tinysam --checkpoint {out}")
