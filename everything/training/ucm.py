"""Training of `ucm`: its boundary network, then the scorer of its regions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from everything.bundled.boundary_net import BoundaryNet, BoundaryNetwork
from everything.bundled.pretrained_boundary_net import PretrainedBoundaryNet
from everything.bundled.ucm import Ucm, fast_bfloat16
from everything.errors import EverythingError
from everything.io.datasets.label_maps import LabelledImage, mirrored
from everything.training.augment import Crop, RandomCrops
from everything.training.boundary_targets import dense_loss
from everything.training.data import read_training_images
from everything.training.loop import Budget, Loop, run
from everything.training.optimizers import Optimisers
from everything.training.output_folder import check_output, write_card, write_weights
from everything.training.pretrained_encoder import folded, load_imagenet
from everything.training.region_targets import ScoredRegions, score_regions
from everything.training.scorer import fit_scorer
from everything.variants.checkpoints.reader import read_state
from everything.variants.networks.ucm import architecture, blueprint

OUTSIDE = ("stem", "prior", "place", "affinity", "boundary")  # not hidden matrices: AdamW's
AFFINITY_WEIGHT = 0.7
ENCODERS = ("lite0", "lite0-random", "none")
ENCODER_RATE = 0.1  # of the decoder's: the encoder knows ImageNet
CHECKED = RandomCrops(scale=(1.0, 1.25), turn=0.0, whole=0.0, recoloured=False)
MEASURED = 16  # images that its feature maps' deviation is taken from
RESULTS = ("ucm.safetensors", "ucm.md")
SCORER_SHARE = 0.12  # of the minutes, that the scorer gets at most
FIT_SECONDS = 12.0  # that fitting the scorer takes after its images have been scored
SLOW_FIT = 60  # images from which on it takes that long
LATEST = 1.03  # of the minutes: when the scorer gets no more images
REPORT_EVERY = 30.0  # seconds
HELD_OUT = 30  # images for the scorer alone
LICENCE_NOTE = (
    "Weights inherit the licence of the photos and regions that they were trained on. Those that "
    "come with this program are for non-commercial research (BSDS500); for production there are "
    "variants with official weights, such as --variant mobilesam."
)


class BoundaryTraining(Loop[BoundaryNetwork]):
    """Training of the boundary network on random crops of images."""

    def __init__(
        self,
        truths: Sequence[LabelledImage],
        budget: Budget,
        seed: int,
        crops: RandomCrops | None = None,
        encoder: str = "lite0",
        device: str = "cpu",
        held_out: Sequence[LabelledImage] = (),
    ) -> None:
        torch.manual_seed(seed)
        self.crops, self.device = crops or RandomCrops(), torch.device(device)
        self.held_out = held_out
        net, optimisers = self._made(truths, encoder)
        super().__init__(net, optimisers, truths, budget, seed)

    def losses(self, truth: LabelledImage) -> dict[str, Tensor]:
        """Return the losses of boundaries and of affinities for one crop."""
        return self._losses(self.net, self.crops(truth, self.random))

    @torch.no_grad()
    def check(self) -> dict[str, float]:
        """Return the losses of the running average on crops of the images that are held out."""
        random = torch.Generator().manual_seed(0)
        crops = replace(CHECKED, sides=self.crops.sides)
        found = [self._losses(self.mean, crops(truth, random)) for truth in self.held_out]
        return {
            name: sum(float(losses[name]) for losses in found) / len(found)
            for name in (found[0] if found else ())
        }

    def _losses(self, net: BoundaryNetwork, crop: Crop) -> dict[str, Tensor]:
        with torch.autocast(self.device.type, torch.bfloat16, fast_bfloat16(self.device)):
            dense = net(crop.rgb.to(self.device))
        boundary, affinity = dense_loss(dense, crop.labels.to(self.device))
        return {"boundary": boundary, "affinity": AFFINITY_WEIGHT * affinity}

    def shipped(self) -> BoundaryNetwork:
        """Return the running average as it ships, on the CPU."""
        return folded(self.mean).cpu()

    def _made(
        self, truths: Sequence[LabelledImage], encoder: str
    ) -> tuple[BoundaryNetwork, dict[str, Optimisers]]:
        """The network at its start, on its device, and what trains it."""
        if encoder == "none":
            plain = BoundaryNet().to(memory_format=torch.channels_last).to(self.device)
            return plain, {"all": Optimisers(plain, OUTSIDE)}
        net = PretrainedBoundaryNet()
        rate = 1.0
        if encoder == "lite0":
            load_imagenet(net.encoder)
            rate = ENCODER_RATE
        net.to(memory_format=torch.channels_last)
        random = torch.Generator().manual_seed(0)
        net.measure(self.crops(truth, random).rgb for truth in truths[:MEASURED])
        net.to(self.device)
        decoder = nn.ModuleDict(
            {name: part for name, part in net.named_children() if name != "encoder"}
        )
        return net, {
            "encoder": Optimisers(net.encoder, (), rate, muon=False),
            "decoder": Optimisers(decoder, OUTSIDE),
        }


def train_ucm(
    truth: Iterable[Path],
    out: Path,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    resume: bool = False,
    split: str | None = "train",
    on_message: Callable[[str], None] = print,
    crops: RandomCrops | None = None,
    encoder: str = "lite0",
    device: str = "cpu",
    images: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Train `ucm` on folders of truth and return the file of its weights, DIR/ucm.safetensors,
    for `--variant ucm --checkpoint`; DIR/ucm.md says how it came about.

    minutes: the budget of all of it: reading the images, the boundary network and the scorer.
    steps: the budget of the boundary network alone. split: of data packs that have splits.
    resume: continue from what an earlier run left in `out`; overwrite: replace it. images: the
    folder of the images, where they are not beside their annotations. Raises EverythingError if
    there are fewer than two images or `out` would be replaced, and what `read_training_images`
    raises.
    """
    started = time.monotonic()
    budget = Budget(minutes, steps)
    check_output(out, RESULTS, resume=resume, overwrite=overwrite)
    on_message(LICENCE_NOTE)
    parts = divided(
        [list(read_training_images(path, split, images)) for path in truth], seed, on_message
    )
    training = BoundaryTraining(parts.learned, budget, seed, crops, encoder, device, parts.held_out)
    if resume:
        training.resume(out)
    on_message(f"{len(parts.learned)} images for boundaries, {len(parts.held_out)} held out")
    if minutes is None:
        run(training, out, on_message)
        return finish(
            training.shipped(), parts, seed, out, on_message, _card(training, parts, seed)
        )
    reserve = _scorer_seconds(training, parts, minutes)
    training.seconds += time.monotonic() - started
    training.budget = Budget(minutes - reserve / 60)
    run(training, out, on_message)
    deadline = time.monotonic() + 60 * minutes * LATEST - training.seconds
    card = _card(training, parts, seed)
    return finish(training.shipped(), parts, seed, out, on_message, card, deadline)


def train_scorer(
    truth: Iterable[Path],
    out: Path,
    weights: Path,
    *,
    seed: int = 0,
    split: str | None = "train",
    on_message: Callable[[str], None] = print,
    images: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Fit a new scorer to the boundary network in `weights`, a file of `ucm`'s, which stays as it
    is; else as `train_ucm`, and raises WeightsError if the file does not fit. truth and seed must
    be those of the network's training, so that the images held out are those it never saw.
    """
    check_output(out, RESULTS, overwrite=overwrite)
    on_message(LICENCE_NOTE)
    parts = divided(
        [list(read_training_images(path, split, images)) for path in truth], seed, on_message
    )
    state = read_state(weights)
    network = blueprint(architecture(state)).load(state, str(weights)).boundary
    network = network.to(memory_format=torch.channels_last)
    card = f"- boundary network: of {weights.name}, kept\n"
    return finish(network, parts, seed, out, on_message, _headed(card + _about_scorer(parts, seed)))


class Parts(NamedTuple):
    """What images are for. learned: for boundaries. held_out: never seen by the boundary network,
    for the scorer. alike: those of `learned` that come from the folder of `held_out`, whose regions
    were marked in the same way, for the scorer too."""

    learned: list[LabelledImage]
    held_out: list[LabelledImage]
    alike: list[LabelledImage]


def divided(
    folders: Sequence[Sequence[LabelledImage]], seed: int, on_message: Callable[[str], None] = print
) -> Parts:
    """Return what images are for; a random fifth, at most 30, of the first folder's complete ones
    are held out. Partly annotated ones are left out, unless the first folder has fewer than two
    others. Raises EverythingError if it has fewer than two images."""
    complete = [[truth for truth in folder if truth.complete] for folder in folders]
    if complete and len(complete[0]) < 2 <= len(folders[0]):
        complete = [list(folder) for folder in folders]
        on_message("images are annotated in part only: what is not annotated counts as unknown")
    elif left := sum(map(len, folders)) - sum(map(len, complete)):
        on_message(f"{left} images are annotated in part only and left out")
    if not complete or len(complete[0]) < 2:
        raise EverythingError(
            "training: the first folder needs at least two annotated images: add more"
        )
    first = complete[0]
    order = torch.randperm(len(first), generator=torch.Generator().manual_seed(seed)).tolist()
    count = min(HELD_OUT, max(1, len(first) // 5))
    chosen = set(order[:count])
    alike = [truth for i, truth in enumerate(first) if i not in chosen]
    learned = alike + [truth for folder in complete[1:] for truth in folder]
    return Parts(learned, [truth for i, truth in enumerate(first) if i in chosen], alike)


def finish(
    network: BoundaryNetwork,
    parts: Parts,
    seed: int,
    out: Path,
    on_message: Callable[[str], None],
    card: str,
    deadline: float | None = None,
) -> Path:
    """Fit the scorer, and write both networks as they ship: DIR/ucm.safetensors and DIR/ucm.md.

    deadline: by the monotonic clock; the scorer goes without the images that it leaves no time
    for.
    """
    ucm = Ucm(network.eval())
    ucm.scorer = fit_scorer(_scored(network, parts, seed, on_message, deadline), seed)
    file = write_weights(out, "ucm.safetensors", shipped(ucm))
    write_card(out, "ucm.md", card)
    on_message(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    return file


def _scored(
    network: BoundaryNetwork,
    parts: Parts,
    seed: int,
    on_message: Callable[[str], None],
    deadline: float | None,
) -> list[ScoredRegions]:
    """The images of the scorer, as many as there is time for."""
    random = np.random.default_rng(seed)
    count = 2 * len(parts.held_out) + len(parts.alike)
    fit = FIT_SECONDS * min(1.0, count / SLOW_FIT)
    scored: list[ScoredRegions] = []
    said = -REPORT_EVERY
    for truth in examples(parts):
        now = time.monotonic()
        if scored and deadline is not None and now + fit > deadline:
            on_message(f"fitting the scorer: no time for {count - len(scored)} of {count} images")
            break
        if now - said >= REPORT_EVERY:
            on_message(f"fitting the scorer: {len(scored)} of {count} images")
            said = now
        try:
            scored.append(score_regions(network, truth, random))
        except ValueError as error:  # nothing is annotated in it
            on_message(f"fitting the scorer: left out: {error}")
    return scored


def _scorer_seconds(training: BoundaryTraining, parts: Parts, minutes: float) -> float:
    """How long the scorer will take, by one image, and at most its share of the minutes."""
    start = time.monotonic()
    with suppress(ValueError):  # nothing is annotated in it
        score_regions(training.shipped(), parts.held_out[0], np.random.default_rng(0))
    each = time.monotonic() - start
    count = 2 * len(parts.held_out) + len(parts.alike)
    needed = each * count + FIT_SECONDS * min(1.0, count / SLOW_FIT)
    return min(needed, SCORER_SHARE * 60 * minutes)


def examples(parts: Parts) -> Iterator[LabelledImage]:
    """Yield the images for the scorer: those held out, plain and mirrored, and those alike.

    The boundary network knows the latter by heart, so their boundaries are too good; but there are
    so many more of them that scores of other images become better all the same.
    """
    for truth in parts.held_out:
        yield truth
        yield mirrored(truth)
    yield from parts.alike


def shipped(ucm: Ucm) -> dict[str, Tensor]:
    """Return the weights for the package: float16, the few of the scorer float32."""
    return {
        name: (value if name.startswith("scorer") else value.half()).contiguous()
        for name, value in ucm.state_dict().items()
    }


def _card(training: BoundaryTraining, parts: Parts, seed: int) -> str:
    return _headed(
        f"- boundary network: {len(training.truths)} photos, {training.steps} steps of one photo, "
        f"{training.seconds / 60:.0f} minutes\n" + _about_scorer(parts, seed)
    )


def _about_scorer(parts: Parts, seed: int) -> str:
    return (
        f"- scorer: {len(parts.held_out)} photos that the boundary network never saw, and "
        f"{len(parts.alike)} that it did; seed {seed}\n"
    )


def _headed(lines: str) -> str:
    return (
        "# ucm: boundary network and region scorer\n\n"
        f"{lines}"
        "- licence: that of the photos and of their regions, which whoever trained this knows\n"
    )
