"""Estimate time and cost of a million images from a measured rate.

python -m everything.batch_jobs.sizing labels --cores 1 --dollars 0.05  # from finished results
"""

from __future__ import annotations

from typing import Annotated

import typer

from everything.jobs.command_errors import exit_on_error

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
SIZES = (1_000_000, 11_000_000)  # and all of SA-1B


def table(rate: float, dollars: float, workers: tuple[int, ...]) -> str:
    """Return hours and cost by number of images and of workers, as a Markdown table.

    rate: images/s of one worker. dollars: cost per hour of one worker's share of a machine.
    """
    lines = ["| images | worker-hours | cost | " + " | ".join(f"{n} workers" for n in workers)]
    lines[0] += " |"
    lines.append("|" + "---|" * (3 + len(workers)))
    for size in SIZES:
        hours = size / rate / 3600
        spans = " | ".join(f"{hours / count:,.1f} h" for count in workers)
        lines.append(f"| {size:,} | {hours:,.0f} | {hours * dollars:,.0f} $ | {spans} |")
    return "\n".join(lines)


@app.command()
def main(
    out: Annotated[str, typer.Argument(help="Results folder of a finished job.")],
    dollars: Annotated[
        float, typer.Option(help="Cost per hour of one worker's share of a machine.")
    ] = 0.05,
    workers: Annotated[str, typer.Option(help="Numbers of workers to estimate for.")] = "8,64,512",
) -> None:
    """Print hours and cost of 1 M and 11 M images like those of a job."""
    with exit_on_error():
        from everything.io.storage.locations import located
        from everything.jobs.status import status

        found = status(located(out))
    seconds = found.stage_seconds["total"]
    typer.echo(f"{found.done:,} images, {seconds:.3f} s each in one worker: {1 / seconds:.3f}/s\n")
    typer.echo(table(1 / seconds, dollars, tuple(int(n) for n in workers.split(","))))


if __name__ == "__main__":
    app()
