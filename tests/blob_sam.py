"""A small SAM fitted to ellipses, so that a realistic share of masks passes the filters in tests.

For a click it predicts three ellipses around it, whose axes depend on the brightness and redness of
the image there. `python tests/blob_sam.py` fits it again (about five minutes on one core) and
writes tests/data/blob_sam.safetensors.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import Tensor
from torch.nn import functional as F

from everything.variants.networks.sam import PIXEL_MEAN, PIXEL_STD

SIDE, WIDTH, LOW = 256, 64, 64
WEIGHTS = Path(__file__).parent / "data" / "blob_sam.safetensors"
CLICKS, STEPS = 16, 3000


def empty_blob_sam() -> Sam:
    """The network with random weights."""
    encoder = ImageEncoderViT(
        img_size=SIDE,
        patch_size=16,
        embed_dim=WIDTH,
        depth=2,
        num_heads=4,
        out_chans=WIDTH,
        window_size=7,
        global_attn_indexes=(1,),
        use_rel_pos=True,
    )
    grid = (SIDE // 16, SIDE // 16)
    transformer = TwoWayTransformer(depth=2, embedding_dim=WIDTH, num_heads=4, mlp_dim=2 * WIDTH)
    decoder = MaskDecoder(transformer_dim=WIDTH, transformer=transformer, iou_head_hidden_dim=WIDTH)
    prompts = PromptEncoder(WIDTH, grid, (SIDE, SIDE), 16)
    return Sam(encoder, prompts, decoder, list(PIXEL_MEAN), list(PIXEL_STD))


def blob_sam() -> Sam:
    """The fitted network."""
    sam = empty_blob_sam()
    sam.load_state_dict(load_file(WEIGHTS))
    return sam.eval()


def ellipses(photo: Tensor, clicks: Tensor) -> Tensor:
    """The targets, bool (P, 3, LOW, LOW), of clicks (P, 2) px on an image (3, SIDE, SIDE)."""
    x, y = clicks.long().unbind(1)
    smooth = F.avg_pool2d(photo[None] / 255, 17, 1, 8, count_include_pad=False)[0]
    red, green, blue = smooth[:, y, x]
    brightness, redness = (red + green + blue) / 3, (red - blue + 1) / 2
    scale = torch.tensor([1.0, 2.2, 4.5]) * 9
    axes = torch.stack([0.5 + brightness, 0.5 + redness], 1)[:, None] * scale[None, :, None]
    centre = (torch.arange(LOW) + 0.5) * SIDE / LOW
    dx = (centre - clicks[:, :1])[:, None, None] / axes[..., :1, None]
    dy = (centre[:, None] - clicks[:, 1:, None])[:, None] / axes[..., 1:, None]
    return dx.square() + dy.square() < 1


def fit(steps: int) -> Sam:
    """Fit the network to ellipses on scikit-image's images, dice and cross-entropy, seed 0."""
    torch.manual_seed(0)
    names = ("astronaut", "chelsea", "coffee", "rocket")
    photos = [Image.fromarray(getattr(skimage.data, n)()).resize((SIDE, SIDE)) for n in names]
    pixels = [torch.from_numpy(np.array(p)).permute(2, 0, 1).float() for p in photos]
    sam = empty_blob_sam()
    optimiser = torch.optim.AdamW(sam.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
    for step in range(steps):
        loss = _loss(sam, pixels[step % len(pixels)])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(sam.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 250 == 0:
            print(step, f"{loss.item():.4f}", flush=True)
    return sam


def _loss(sam: Sam, photo: Tensor) -> Tensor:
    if torch.rand(()) < 0.5:
        photo = photo.flip(2)
    clicks = torch.rand(CLICKS, 2) * (SIDE - 1)
    target = ellipses(photo, clicks).float()
    embedding = sam.image_encoder(sam.preprocess(photo)[None])
    labels = torch.ones(CLICKS, 1)
    sparse, dense = sam.prompt_encoder((clicks[:, None], labels), None, None)
    positions = sam.prompt_encoder.get_dense_pe()
    logits, scores = sam.mask_decoder(embedding, positions, sparse, dense, True)
    inside = torch.sigmoid(logits)
    both = (inside * target).sum((2, 3))
    dice = 1 - (2 * both + 1) / (inside.sum((2, 3)) + target.sum((2, 3)) + 1)
    entropy = F.binary_cross_entropy_with_logits(logits, target)
    hard = (logits > 0).float()
    common = (hard * target).sum((2, 3))
    iou = common / (hard.sum((2, 3)) + target.sum((2, 3)) - common).clamp(min=1)
    return dice.mean() + 5 * entropy + F.mse_loss(scores, iou)


if __name__ == "__main__":
    WEIGHTS.parent.mkdir(exist_ok=True)
    save_file(fit(STEPS).state_dict(), WEIGHTS)
