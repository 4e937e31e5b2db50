"""`everything quantize`: quantize an image encoder to 8-bit integers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from everything.jobs.command_errors import exit_on_error


def quantize(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT", help="Images, or folders of them, like those you want to label."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Output file (.safetensors).")
    ],
    variant: Annotated[
        str, typer.Option(help="Model to quantize: tinysam or mobilesam.")
    ] = "tinysam",
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Weights of that model.", show_default="its official weights"),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of images to calibrate on.")] = 16,
) -> None:
    """Quantize TinySAM's image encoder to 8-bit integers, for --variant q-tinysam on CPUs."""
    with exit_on_error():
        from everything.io.images.decode import read_image
        from everything.io.images.sources import list_inputs
        from everything.variants.quantize import quantize_tinysam

        photos = (read_image(source.path).pixels for source in list_inputs(inputs))
        made = quantize_tinysam(photos, out, variant=variant, checkpoint=checkpoint, limit=limit)
        typer.echo(str(made))
        typer.echo(f"everything label IMAGES --out labels --variant q-tinysam --checkpoint {out}")
