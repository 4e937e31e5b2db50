"""`everything train …`: train the bundled models on annotated images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from everything.cli import completion
from everything.cli.defaults import Command
from everything.jobs.command_errors import exit_on_error

train = typer.Typer(
    help="Train the bundled models on your own annotated images.\n\nThe samplers object-aware "
    "and all-instance have no network of their own: their boxes and masks come from ucm's "
    "regions, so training ucm trains both.",
    no_args_is_help=True,
)
_ANNOTATED = (
    "results of `everything label` or `import`, a COCO file, a folder of SA-1B JSON files "
    "beside their images, a folder of label maps, or a "
    "data pack (a folder with annotations.json.xz)"
)
Truths = Annotated[
    list[Path],
    typer.Argument(
        metavar="TRUTH",
        help=f"Annotated images: {_ANNOTATED}.",
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out", "-o", metavar="DIR", help="Output folder: weights, model card and checkpoints."
    ),
]
Minutes = Annotated[
    float | None, typer.Option(help="Minutes to train; give this or --steps.", show_default="none")
]
Steps = Annotated[
    int | None,
    typer.Option(
        help="Steps to train, of one image each; give this or --minutes.", show_default="none"
    ),
]
Seed = Annotated[int, typer.Option(help="Random seed.")]
Split = Annotated[
    str | None, typer.Option(help="If TRUTH is a data pack with splits: use only this split.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Resume the training in DIR.", show_default="off")
]
Images = Annotated[
    Path | None,
    typer.Option(
        "--photos",
        metavar="DIR",
        help="Folder of the images.",
        show_default="beside their annotations",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace an earlier training in DIR.", show_default="off"),
]


@train.command(cls=Command)
def ucm(
    truth: Truths,
    out: Out,
    minutes: Minutes = None,
    steps: Steps = None,
    seed: Seed = 0,
    split: Split = "train",
    resume: Resume = False,
    images: Images = None,
    overwrite: Overwrite = False,
    encoder: Annotated[
        str,
        typer.Option(
            help="Encoder of the boundary network: lite0 (EfficientNet-Lite0 with ImageNet "
            "weights; needs the extra 'train'), lite0-random (the same with random weights) or "
            "none (the smaller network without one)."
        ),
    ] = "lite0",
    device: Annotated[str, typer.Option(help="Device to train on: cpu, cuda, cuda:1 …")] = "cpu",
    scorer_of: Annotated[
        Path | None,
        typer.Option(
            metavar="WEIGHTS",
            help="Fit only a new scorer and keep the boundary network of these ucm weights, which "
            "must have been trained on the same TRUTH with the same --seed.",
            show_default="train both",
        ),
    ] = None,
) -> None:
    """Train `ucm`: its boundary network and its scorer.

    The bundled weights took an hour on one core.
    """
    with exit_on_error():
        from everything.errors import InputError
        from everything.training.ucm import ENCODERS, train_scorer, train_ucm

        if encoder not in ENCODERS:
            raise InputError(f"--encoder {encoder}: not known: one of {', '.join(ENCODERS)}")
        if scorer_of is None:
            weights = train_ucm(
                truth,
                out,
                minutes=minutes,
                steps=steps,
                seed=seed,
                split=split,
                resume=resume,
                encoder=encoder,
                device=device,
                images=images,
                overwrite=overwrite,
            )
        elif minutes or steps or resume:
            raise InputError("--scorer-of trains no network: drop --minutes, --steps and --resume")
        else:
            weights = train_scorer(
                truth, out, scorer_of, seed=seed, split=split, images=images, overwrite=overwrite
            )
        typer.echo(f"everything label PHOTOS --out labels --variant ucm --checkpoint {weights}")


@train.command(cls=Command)
def nano(
    truth: Truths,
    out: Out,
    minutes: Minutes = None,
    steps: Steps = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="ucm or ucm-lite0 weights to start from; nano gets their backbone.",
            show_default="random weights, without a backbone",
        ),
    ] = None,
    seed: Seed = 0,
    split: Split = "train",
    resume: Resume = False,
    images: Images = None,
    overwrite: Overwrite = False,
) -> None:
    """Train `nano`, a tiny SAM on top of `ucm`'s boundary network."""
    with exit_on_error():
        from everything.training.loop import Budget
        from everything.training.nano import train_nano

        budget = Budget(minutes=minutes, steps=steps)
        weights = train_nano(
            truth,
            out,
            budget,
            init=init,
            seed=seed,
            split=split,
            resume=resume,
            images=images,
            overwrite=overwrite,
        )
        typer.echo(f"everything label PHOTOS --out labels --variant nano --checkpoint {weights}")


@train.command("lite-sam", cls=Command)
def lite_sam(
    truth: Truths,
    out: Out,
    minutes: Minutes = None,
    steps: Steps = None,
    seed: Seed = 0,
    split: Split = "train",
    resume: Resume = False,
    images: Images = None,
    overwrite: Overwrite = False,
) -> None:
    """Train Lite-SAM from scratch (no weights are published): days on a CPU, not minutes."""
    with exit_on_error():
        from everything.training.lite_sam import train_lite_sam
        from everything.training.loop import Budget

        budget = Budget(minutes=minutes, steps=steps)
        weights = train_lite_sam(
            truth,
            out,
            budget,
            seed=seed,
            split=split,
            resume=resume,
            images=images,
            overwrite=overwrite,
        )
        typer.echo(
            f"everything label PHOTOS --out labels --variant lite-sam --checkpoint {weights}"
        )


@train.command("auto-ppn", cls=Command)
def auto_ppn(
    truth: Truths,
    out: Out,
    variant: Annotated[
        str,
        typer.Option(
            help="Model whose feature maps the head reads.", autocompletion=completion.variants
        ),
    ] = "ucm-lite0",
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Weights for the variant.", show_default="the variant's official weights"
        ),
    ] = None,
    minutes: Minutes = None,
    steps: Steps = None,
    seed: Seed = 0,
    split: Split = "train",
    resume: Resume = False,
    images: Images = None,
    overwrite: Overwrite = False,
) -> None:
    """Train the prompt head of the sampler auto-ppn for a variant."""
    with exit_on_error():
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
            images=images,
            overwrite=overwrite,
        )
        typer.echo(
            f"everything label PHOTOS --out labels --variant {variant} --sampler auto-ppn "
            f"--set sampler.head={head}"
        )
