"""Training of `ucm`: its boundary network, then the scorer of its regions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from everything.embedded.boundary import BoundaryNet
from everything.embedded.ucm import Ucm
from everything.errors import EverythingError
from everything.training.augment import Looks
from everything.training.loop import Budget, Loop, run
from everything.training.optimise import Optimisers
from everything.training.regions import judge
from everything.training.scorer import fit_scorer
from everything.training.targets import dense_loss
from everything.training.truth import Truth, read_truth

OUTSIDE = ("stem", "prior", "place", "affinity", "boundary")  # not hidden matrices: AdamW's
AFFINITY_WEIGHT = 0.7
HELD_OUT = 30  # photos for the scorer alone
LICENCE_NOTE = (
    "Weights inherit the licence of the photos and regions that they were trained on. Those that "
    "come with this program are for non-commercial research (BSDS500); for production there are "
    "variants with official weights, such as --variant mobilesam."
)


class BoundaryTraining(Loop[BoundaryNet]):
    """Training of the boundary network on random looks at photos."""

    def __init__(
        self, truths: Sequence[Truth], budget: Budget, seed: int, looks: Looks | None = None
    ) -> None:
        torch.manual_seed(seed)
        net = BoundaryNet().to(memory_format=torch.channels_last)
        super().__init__(net, {"all": Optimisers(net, OUTSIDE)}, truths, budget, seed)
        self.looks = looks or Looks()

    def losses(self, truth: Truth) -> dict[str, Tensor]:
        """Return the losses of boundaries and of affinities for one look."""
        look = self.looks(truth, self.random)
        with torch.autocast("cpu", torch.bfloat16):
            dense = self.net(look.rgb)
        boundary, affinity = dense_loss(dense, look.labels)
        return {"boundary": boundary, "affinity": AFFINITY_WEIGHT * affinity}


def train_ucm(
    truth: Iterable[Path],
    out: Path,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    resume: bool = False,
    split: str | None = "train",
    say: Callable[[str], None] = print,
    looks: Looks | None = None,
) -> Path:
    """Train `ucm` on folders of truth and return the file of its weights, DIR/ucm.safetensors,
    for `--variant ucm --checkpoint`; DIR/ucm.md says how it came about.

    minutes or steps: the budget of the boundary network; the scorer takes a minute more. split:
    of data packs that have splits. resume: continue from what an earlier run left in `out`.
    Photos that are marked only in part are left out. The scorer is fitted to up to 30 photos of
    the folder named first, which the boundary network never sees. Raises EverythingError if there
    are fewer than two photos, and what `read_truth` raises.
    """
    say(LICENCE_NOTE)
    folders = [list(read_truth(path, split)) for path in truth]
    learned, held_out = divided(folders, seed)
    training = BoundaryTraining(learned, Budget(minutes, steps), seed, looks)
    if resume:
        training.resume(out)
    say(f"{len(learned)} photos for boundaries, {len(held_out)} for the scorer")
    run(training, out, say)
    return finish(training.mean, held_out, seed, out, say, _card(training, len(held_out), seed))


def divided(folders: Sequence[Sequence[Truth]], seed: int) -> tuple[list[Truth], list[Truth]]:
    """Return the photos for the boundary network and those held out for the scorer: a random
    fifth, at most 30, of the first folder's complete photos."""
    complete = [[truth for truth in folder if truth.complete] for folder in folders]
    if not complete or len(complete[0]) < 2:
        raise EverythingError("training: the first folder needs two photos marked all over")
    first = complete[0]
    order = torch.randperm(len(first), generator=torch.Generator().manual_seed(seed)).tolist()
    count = min(HELD_OUT, max(1, len(first) // 5))
    chosen = set(order[:count])
    learned = [truth for i, truth in enumerate(first) if i not in chosen]
    learned += [truth for folder in complete[1:] for truth in folder]
    return learned, [truth for i, truth in enumerate(first) if i in chosen]


def finish(
    network: BoundaryNet,
    held_out: Sequence[Truth],
    seed: int,
    out: Path,
    say: Callable[[str], None],
    card: str,
) -> Path:
    """Fit the scorer, and write both networks as they ship: DIR/ucm.safetensors and DIR/ucm.md."""
    random = np.random.default_rng(seed)
    ucm = Ucm()
    ucm.boundary = network.eval()
    ucm.scorer = fit_scorer([judge(network, truth, random) for truth in held_out], seed)
    file = out / "ucm.safetensors"
    save_file(shipped(ucm), file)
    (out / "ucm.md").write_text(card, encoding="utf-8")
    say(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    return file


def shipped(ucm: Ucm) -> dict[str, Tensor]:
    """Return the weights for the package: float16, the few of the scorer float32."""
    return {
        name: (value if name.startswith("scorer") else value.half()).contiguous()
        for name, value in ucm.state_dict().items()
    }


def _card(training: BoundaryTraining, held_out: int, seed: int) -> str:
    return (
        "# ucm: boundary network and region scorer\n\n"
        f"- photos: {len(training.truths)} for boundaries, {held_out} others for the scorer\n"
        f"- {training.steps} steps of one photo, {training.seconds / 60:.0f} minutes, "
        f"seed {seed}\n"
        "- licence: that of the photos and of their regions, which whoever trained this knows\n"
    )
