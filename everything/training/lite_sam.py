"""Training of Lite-SAM: nano's prompts, losses and loop, on LiteViT with SAM's own decoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn
from torch.nn import functional as F

from everything.bundled.nano import QUIET, SPREAD, frequencies, match_places
from everything.core.prompts import BOTTOM_RIGHT, INSIDE, TOP_LEFT
from everything.decoding.prompt_encoding import encode_sam
from everything.io.datasets.label_maps import LabelledImage
from everything.training.augment import RandomCrops
from everything.training.data import complete_images
from everything.training.loop import Budget, Loop, run
from everything.training.nano import Task, prompt_losses
from everything.training.optimizers import Optimisers
from everything.training.output_folder import check_output, write_card, write_weights
from everything.training.two_way_decoder import assemble, decode_prompts
from everything.variants.networks.lite_sam import SIDE, LiteVit
from everything.variants.networks.sam import PIXEL_MEAN, PIXEL_STD, prompt_side

CELL = 16  # px of a cell of the embedding


class LiteSamTraining(Loop[Sam]):
    """The training of Lite-SAM, from nothing. sides: of crops, px, and how often each is drawn."""

    decay = 0.998  # steps are few

    def __init__(
        self,
        truths: Sequence[LabelledImage],
        budget: Budget,
        seed: int,
        sides: tuple[tuple[int, int], ...] = ((512, 352),) * 6 + ((512, 512),),
    ) -> None:
        torch.manual_seed(seed)
        net = untrained()
        super().__init__(net, {"all": Optimisers(net, (), muon=False)}, truths, budget, seed)
        self.crops = [RandomCrops(sides=pair, scale=(0.8, 2.0)) for pair in sides]

    def losses(self, truth: LabelledImage) -> dict[str, Tensor]:
        """Return the losses of masks, of the single mask and of the predicted IoU."""
        chosen = int(torch.randint(len(self.crops), (), generator=self.random))
        crop = self.crops[chosen](truth, self.random)
        # bfloat16 is ten times slower without AVX-512, and depthwise kernels are with it too.
        with torch.autocast("cpu", enabled=False):
            return prompt_losses(
                self.net.mask_decoder, crop, self.random, partial(predict, self.net)
            )


def untrained() -> Sam:
    """Return the network as its training begins: the attention between prompts and image as a
    search for equal places (everything.bundled.nano.match_places)."""
    prompts, decoder = prompt_side(SIDE)
    encoder = LiteVit(SIDE).to(memory_format=torch.channels_last)
    net = Sam(encoder, prompts, decoder, list(PIXEL_MEAN), list(PIXEL_STD))
    prompts.pe_layer.positional_encoding_gaussian_matrix = doubled_frequencies(frequencies())
    match_places(decoder.transformer)
    learned = (decoder.iou_token, decoder.mask_tokens, prompts.not_a_point_embed)
    for embedding in (*learned, *prompts.point_embeddings):
        nn.init.normal_(embedding.weight, std=QUIET)
    nn.init.constant_(encoder.neck.get_parameter("4.weight"), QUIET)
    return net


def doubled_frequencies(waves: Tensor) -> Tensor:
    """Return nano's frequencies (2, 64) and those between their directions, (2, 128): in each band
    the former come first."""
    bands = waves.view(2, len(SPREAD), -1)
    cos, sin = math.cos(math.pi / 32), math.sin(math.pi / 32)
    between = torch.stack([cos * bands[0] - sin * bands[1], sin * bands[0] + cos * bands[1]])
    return torch.cat([bands, between], 2).flatten(1).contiguous()


def predict(net: Sam, rgb: Tensor, task: Task) -> tuple[Tensor, Tensor]:
    """Return logits (P, M, h / 4, w / 4) and predicted IoU (P, M) of a task, clicks first.

    rgb: float32 (1, 3, h, w) in [0, 1], at the top left of the canvas, h and w multiples of 16.
    """
    height, width = rgb.shape[2:]
    pixels = (255 * rgb - net.pixel_mean) / net.pixel_std
    embedding = net.image_encoder(F.pad(pixels, (0, SIDE - width, 0, SIDE - height)))
    prompts = net.prompt_encoder
    inside = torch.full((len(task.clicks), 1), INSIDE)
    corners = torch.tensor([TOP_LEFT, BOTTOM_RIGHT]).expand(len(task.boxes), 2)
    asked = ((task.clicks[:, None], inside), (task.boxes.view(-1, 2, 2), corners))
    # A click with SAM's padding point has two tokens, as has a box.
    tokens = torch.cat(
        [encode_sam(prompts, points, labels)[0] for points, labels in asked if len(points)]
    )
    image = embedding[0].flatten(1).T + prompts.no_mask_embed.weight
    position = prompts.get_dense_pe()[0].flatten(1).T
    cells = (height // CELL, width // CELL)
    grid = torch.arange(len(position)).view(embedding.shape[2:])
    drawn = grid[: cells[0], : cells[1]].flatten()
    logits, scores = decode_prompts(net.mask_decoder, image, position, tokens, drawn)
    return assemble(logits, cells), scores


def train_lite_sam(
    truth: Iterable[Path],
    out: Path,
    budget: Budget,
    *,
    seed: int = 0,
    split: str | None = "train",
    resume: bool = False,
    on_message: Callable[[str], None] = print,
    images: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Train Lite-SAM on folders of truth and return the file of its weights,
    DIR/lite_sam.safetensors, for `--variant lite-sam --checkpoint`; DIR/lite_sam.md says how it
    came about.

    split: of data packs that have splits. resume: continue from what an earlier run left in `out`.
    Images that are marked only in part are left out. Raises ValueError if none remain, and what
    `read_training_images` raises.
    """
    check_output(out, ("lite_sam.safetensors", "lite_sam.md"), resume=resume, overwrite=overwrite)
    photos = complete_images(truth, split, images, on_message)
    training = LiteSamTraining(photos, budget, seed)
    if resume:
        training.resume(out)
    on_message(f"{len(photos)} images")
    run(training, out, on_message)
    weights = {n: value.contiguous() for n, value in training.mean.state_dict().items()}
    file = write_weights(out, "lite_sam.safetensors", weights)
    write_card(out, "lite_sam.md", _card(training, seed))
    return file


def _card(training: LiteSamTraining, seed: int) -> str:
    return (
        "# Lite-SAM\n\n"
        f"- photos: {len(training.truths)}\n"
        f"- {training.steps} steps of one photo, {training.seconds / 60:.0f} minutes, seed {seed}\n"
        "- licence: that of the photos and of their regions, which whoever trained this knows\n"
    )
