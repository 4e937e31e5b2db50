"""`everything train …`: the models that come with the program, made again from marked photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from everything.cli.errors import errors_shown

train = typer.Typer(
    help="Train the models that come with the program, or your own from them. There is no "
    "detector or instance network of its own to train: object-aware and all-instance take their "
    "boxes and masks from the regions of ucm, so training ucm trains both.",
    no_args_is_help=True,
)
Truths = Annotated[
    list[Path],
    typer.Argument(
        metavar="TRUTH",
        help="Marked photos: a COCO file, a folder of SA-1B JSON, of label maps, or a data pack.",
    ),
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="For weights, card, checkpoints.")]
Minutes = Annotated[float | None, typer.Option(help="Of training; or --steps.")]
Steps = Annotated[int | None, typer.Option(help="Photos to train on, one each; or --minutes.")]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
Split = Annotated[str | None, typer.Option(help="Of data packs that have splits.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue what DIR holds.")]


@train.command()
def ucm(
    truth: Truths,
    out: Out,
    minutes: Minutes = None,
    steps: Steps = None,
    seed: Seed = 0,
    split: Split = "train",
    resume: Resume = False,
    scorer_of: Annotated[
        Path | None,
        typer.Option(
            metavar="WEIGHTS",
            help="Weights of ucm, of which only the scorer is fitted anew; the boundary network, "
            "trained on the same TRUTH with the same seed, stays.",
        ),
    ] = None,
) -> None:
    """The boundary network and the scorer of `ucm`; an hour on one core is what ships."""
    with errors_shown():
        from everything.errors import InputError
        from everything.training.ucm import train_scorer, train_ucm

        if scorer_of is None:
            weights = train_ucm(
                truth, out, minutes=minutes, steps=steps, seed=seed, split=split, resume=resume
            )
        elif minutes or steps or resume:
            raise InputError("--scorer-of trains no network: drop --minutes, --steps and --resume")
        else:
            weights = train_scorer(truth, out, scorer_of, seed=seed, split=split)
        typer.echo(f"everything label PHOTOS --out labels --variant ucm --checkpoint {weights}")


@train.command()
def nano(
    truth: Truths,
    out: Out,
    minutes: Minutes = None,
    steps: Steps = None,
    init: Annotated[Path | None, typer.Option(help="Weights of ucm to start from.")] = None,
    seed: Seed = 0,
    split: Split = "train",
    resume: Resume = False,
) -> None:
    """The tiny SAM `nano`, grown on the boundary network of `ucm`."""
    with errors_shown():
        from everything.training.loop import Budget
        from everything.training.nano import train_nano

        budget = Budget(minutes=minutes, steps=steps)
        weights = train_nano(truth, out, budget, init=init, seed=seed, split=split, resume=resume)
        typer.echo(f"everything label PHOTOS --out labels --variant nano --checkpoint {weights}")


@train.command("lite-sam")
def lite_sam(
    truth: Truths,
    out: Out,
    minutes: Minutes = None,
    steps: Steps = None,
    seed: Seed = 0,
    split: Split = "train",
    resume: Resume = False,
) -> None:
    """Lite-SAM, of which no weights are published, from nothing: days on a CPU, not minutes."""
    with errors_shown():
        from everything.training.lite_sam import train_lite_sam
        from everything.training.loop import Budget

        budget = Budget(minutes=minutes, steps=steps)
        weights = train_lite_sam(truth, out, budget, seed=seed, split=split, resume=resume)
        typer.echo(
            f"everything label PHOTOS --out labels --variant lite-sam --checkpoint {weights}"
        )


@train.command("auto-ppn")
def auto_ppn(
    truth: Truths,
    out: Out,
    variant: Annotated[str, typer.Option(help="Whose feature maps it reads.")] = "ucm",
    checkpoint: Annotated[Path | None, typer.Option(help="The variant's weights.")] = None,
    minutes: Minutes = None,
    steps: Steps = None,
    seed: Seed = 0,
    split: Split = "train",
    resume: Resume = False,
) -> None:
    """A head that proposes prompts, for any variant; TRUTH may be labels of this program."""
    with errors_shown():
        from everything.training.auto_ppn import train_auto_ppn
        from everything.training.loop import Budget

        head = train_auto_ppn(
            truth,
            out,
            Budget(minutes=minutes, steps=steps),
            variant=variant,
            checkpoint=checkpoint,
            seed=seed,
            split=split,
            resume=resume,
        )
        typer.echo(
            f"everything label PHOTOS --out labels --variant {variant} --sampler auto-ppn "
            f"--set sampler.head={head}"
        )
