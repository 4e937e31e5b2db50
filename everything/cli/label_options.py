"""The options of `everything label`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from everything.cli import completion
from everything.cli.messages import PANEL as _SAID

_FILES, _MODEL, _JOB = "Input and output", "Model and sampler", "Job"
_SAM = "SAM's settings (presets of the variant and the sampler override these defaults)"
_Int = int | None
_Float = float | None
_Text = str | None
_Bool = bool | None


def _option(panel: str, *name: str, help: str, default: str | bool = True, **more: Any) -> Any:
    return typer.Option(*name, help=help, show_default=default, rich_help_panel=panel, **more)


def _sam(help: str, default: str) -> Any:
    return _option(_SAM, help=help, default=default)


# Input and output
Images = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        help="Images; folders (searched recursively); glob patterns; s3:// and other URLs; lists "
        "of images (.parquet, .csv, .tsv, .jsonl, .txt); .tar and .zip archives.",
    ),
]
Out = Annotated[
    str, _option(_FILES, "--out", "-o", metavar="DIR", help="Folder or bucket URL for the results.")
]
Demo = Annotated[
    bool,
    _option(
        _FILES, "--demo", default="off",
        help="Label the demo images, which are part of the installed packages, instead of INPUT.",
    ),
]  # fmt: skip
Limit = Annotated[
    _Int,
    _option(
        _FILES, min=1, default="all images",
        help="Label only the first N images. Rerun without it to label the rest.",
    ),
]  # fmt: skip
MaskLevel = Annotated[
    _Text,
    _option(
        _FILES, default="all",
        help="Keep only masks of this level: whole (objects), part (parts of objects), subpart "
        "(parts of parts), or all.",
    ),
]  # fmt: skip
Overwrite = Annotated[
    bool,
    _option(
        _FILES,
        "--overwrite",
        default="off",
        help="Delete the results in DIR and start over; other files there are kept.",
    ),
]
ContinueAnyway = Annotated[
    bool,
    _option(
        _FILES, "--continue-anyway", default="off",
        help="Label the remaining images although the results in DIR have other settings; says "
        "what differs.",
    ),
]  # fmt: skip
Preview = Annotated[
    bool, _option(_FILES, help="Write an HTML page that shows the masks over the images.")
]
Json = Annotated[bool, _option(_FILES, "--json", default="off", help="Print the summary as JSON.")]

# Model and sampler
Variant = Annotated[
    _Text,
    _option(
        _MODEL, default="ucm-lite0, a small bundled model",
        help="Model that finds the masks: a name from `everything variants`, or hf:ORG/NAME, a "
        "mask generation model on Hugging Face (hf:ORG/NAME@REVISION, hf:/FOLDER).",
        autocompletion=completion.variants,
    ),
]  # fmt: skip
Checkpoint = Annotated[
    _Text,
    _option(
        _MODEL, default="the variant's official weights",
        help="Weights for the variant: a path or a URL.",
    ),
]  # fmt: skip
Sampler = Annotated[
    _Text,
    _option(
        _MODEL, default="grid-32, a grid of 32 x 32 points",
        help="How prompts are chosen: a name from `everything samplers`.",
        autocompletion=completion.samplers,
    ),
]  # fmt: skip
Config = Annotated[
    _Text,
    _option(
        _MODEL, metavar="YAML", default="none",
        help="A recipe (all settings in one file): a path, or a name from "
        "`everything configs`. Options given here override it.",
        autocompletion=completion.configs,
    ),
]  # fmt: skip
Sets = Annotated[
    list[str] | None,
    _option(
        _MODEL, "--set", metavar="A.B=C", default="none",
        help="Set any setting, for example nms.kind=mask; repeatable. `everything settings` "
        "lists them.",
        autocompletion=completion.settings,
    ),
]  # fmt: skip
Device = Annotated[
    _Text,
    _option(
        _MODEL, default="auto", help="cpu, cuda, cuda:1, mps, or auto: a GPU if there is one."
    ),
]  # fmt: skip
Precision = Annotated[
    _Text,
    _option(
        _MODEL, default="auto",
        help="Precision of the image encoder: fp32, bf16, fp16, or auto: the variant's own.",
    ),
]  # fmt: skip
Compile = Annotated[
    _Bool,
    _option(
        _MODEL, "--compile", default="off",
        help="Run the image encoder (on a GPU also the mask decoder) through torch.compile.",
    ),
]  # fmt: skip

# SAM's settings
PointsPerSide = Annotated[_Int, _sam("Points along each side of the prompt grid.", "32")]
PointsPerBatch = Annotated[_Int, _sam("Prompts decoded in one batch.", "64")]
PredIouThresh = Annotated[
    _Float, _sam("Keep masks with a predicted IoU above this; 0 keeps all.", "0.88")
]
StabilityScoreThresh = Annotated[
    _Float, _sam("Keep masks with a stability score of at least this; 0 keeps all.", "0.95")
]
StabilityScoreOffset = Annotated[
    _Float,
    _sam("Shift of the mask threshold (in logits) when the stability score is computed.", "1.0"),
]
MaskThreshold = Annotated[
    _Float, _sam("A pixel is in the mask if its logit is above this; higher: smaller masks.", "0.0")
]
BoxNmsThresh = Annotated[
    _Float, _sam("Overlap (IoU) above which masks of one crop are duplicates.", "0.7")
]
CropNLayers = Annotated[
    _Int, _sam("Layers of crops to segment besides the whole image; layer i has 4^i crops.", "0")
]
CropNmsThresh = Annotated[
    _Float, _sam("Overlap (IoU) above which masks of different crops are duplicates.", "0.7")
]
CropOverlapRatio = Annotated[
    _Float,
    _sam("Overlap of the crops in layer 1, as a fraction of the image's shorter side.", "0.3413"),
]
CropNPointsDownscaleFactor = Annotated[
    _Int, _sam("Divide the points per side by this factor in each further crop layer.", "1")
]
MinMaskRegionArea = Annotated[
    _Int, _sam("Remove holes and islands of a mask that are smaller than this (pixels).", "0")
]

# Job
Workers = Annotated[
    _Text,
    _option(
        _JOB, metavar="N", default="auto",
        help="Maximum number of worker processes. auto: one per CPU core, as far as memory and the "
        "number of images allow, on all GPUs; with --ray as many as fit on the cluster. With more "
        "than one, an image that crashes its worker fails alone.",
    ),
]  # fmt: skip
Threads = Annotated[
    int,
    _option(
        _JOB, min=1,
        help="PyTorch threads per worker process. Output is bit-identical only for equal thread "
        "counts.",
    ),
]  # fmt: skip
TimeLimit = Annotated[
    _Float,
    _option(
        _JOB, min=0.001, metavar="SECONDS", default="no limit",
        help="Maximum time per image. A slower image is recorded as failed; the job continues.",
    ),
]  # fmt: skip
StopAfterFailures = Annotated[
    int,
    _option(
        _JOB, min=0, metavar="N",
        help="Stop if the first N images all fail for the same reason; 0: never.",
    ),
]  # fmt: skip
Ray = Annotated[
    _Text,
    _option(
        _JOB, "--ray", metavar="[ADDRESS]", default="off: processes on this machine",
        help="Run the workers on a Ray cluster: at ADDRESS (HOST:PORT); without ADDRESS, at "
        "RAY_ADDRESS if that is set, or else on a cluster started on this machine.",
    ),
]  # fmt: skip

# Messages
DryRun = Annotated[
    bool,
    _option(
        _JOB, "--dry-run", default="off",
        help="Write nothing: count the images, and label the first three in memory to estimate "
        "the time.",
    ),
]  # fmt: skip
Quiet = Annotated[
    bool,
    _option(
        _SAID, "--quiet", "-q", default="off",
        help="Print only warnings and errors; with --json also the summary.",
    ),
]  # fmt: skip
Verbose = Annotated[
    bool,
    _option(
        _SAID, "--verbose", "-v", default="off",
        help="Also print one line per image: number of masks, seconds per stage.",
    ),
]  # fmt: skip
LogJson = Annotated[
    bool,
    _option(
        _SAID, "--log-json", default="off",
        help="Print messages and progress as JSON, one object per line: start, each image, end.",
    ),
]  # fmt: skip
