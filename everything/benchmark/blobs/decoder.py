"""Weights of a mask decoder that draws blobs around clicks, as a stand-in for trained ones.

A decoder of SAM's structure, of any family, is written by hand so that its masks depend on the
prompt and hardly on the image encoder, whose weights are random. With p(x) the positional encoding
of a place, sines and cosines of a few plane waves, the logit of a click c at a place x is

    gain (cos(w (x1 - c1)) + cos(w (x2 - c2)) - 2 + depth (1 + swell(c)) + ripples(x, c)),

positive in a disc around c, whose size is the level's, swells with c, and whose outline is made
uneven by waves of more directions. All of it is linear in p(x) and in p(c):

1. Tokens: the first self-attention copies p(c), and the corners of a box, into the output tokens.
2. Image: the first layer leaves of the embedding a thousandth. In the second, the image attends to
   the four mask tokens, by so small scores that the weights are linear in p(x).
3. Upscaling moves each wave to the middle of each of the four cells that a cell becomes. Every
   number is there twice, with both signs, as GELU(u) - GELU(-u) = u and ReLU alike; this also
   keeps the mean 0, which norms subtract.
4. Hypernetworks turn p(c) into coefficients of the waves. A box's disc has its centre and size.
5. The head for predicted IoU computes random features of p(c).

What else there is (other attention, perceptrons) has random weights and adds 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from everything.benchmark.blobs.modules import DecoderModules

WIDTH, HEADS = 256, 8
DEPTHS = (0.08, 0.015, 0.08, 0.36)  # of the discs of mask tokens 0 to 3: w² radius² / 2
SWELL, RIPPLE = 0.4, 0.12  # of the depth: of its spread over clicks, of each wave's height
SMALLEST = 0.002  # depth that is added to a box's disc
IMAGE = 0.001  # share of the image's embedding that is left
_AXES, _RIPPLES, _PLACE, _HASH = range(2), range(2, 6), range(6, 8), range(8, 24)  # waves
_CYCLES, _PLACE_CYCLES = 0.2, 0.1 / (2 * math.pi)  # per half of the canvas
_RIPPLE_CYCLES = (0.5, 0.6, 1.3, 1.5)
_KINDS = ("present", "iou", "mask0", "mask1", "mask2", "mask3", "hq")
_PROMPTS = ("outside", "inside", "top left", "bottom right", "padding")
_FLAG, _SURE, _SMALL = 16.0, 60.0, 0.03  # a token's mark; attention scores: certain, and linear
_KNOTS = tuple((i / 16) ** 2 for i in range(17))


def write(decoder: DecoderModules, seed: int) -> None:
    """Replace the weights of a mask decoder and its prompt encoder in place.

    Args:
        decoder: Its modules, with random weights.
        seed: Random seed of the ripples, the swelling, and the scores.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        waves = _waves(generator)
        for matrix in decoder.waves:
            matrix.copy_(waves)
        _mark_tokens(decoder)
        _read_prompts(decoder.layers[0].to_itself)
        for layer in decoder.layers:
            for adds_nothing in (layer.to_image.out, layer.mlp_out):
                _clear(adds_nothing)
        _clear(decoder.layers[1].to_itself.out, decoder.layers[0].to_tokens.out, decoder.final.out)
        decoder.layers[0].after_image.weight.fill_(IMAGE)
        _draw_waves(decoder.layers[1].to_tokens)
        for conv, parts in zip(decoder.upscaling, (2, 4), strict=True):
            _move_waves(conv, waves, parts * decoder.cells)
        swells = torch.randn(3, 2 * len(_HASH), generator=generator) / len(_HASH) ** 0.5
        phases = torch.randn(3, 2 * len(_RIPPLES), generator=generator)
        for network, depth, level in zip(decoder.hypernetworks, DEPTHS, (1, 0, 1, 2), strict=True):
            _weigh_waves(network, depth, swells[level], phases[level])
        _score(decoder.iou_head, generator)
        _clear(*decoder.unused)


def _waves(generator: torch.Generator) -> Tensor:
    """Cycles of each wave in the two directions, (2, 128)."""
    waves = torch.zeros(2, WIDTH // 2)
    for waves_of, cycles in ((_AXES, _CYCLES), (_PLACE, _PLACE_CYCLES)):
        waves[range(2), waves_of] = cycles
    angles = 2 * math.pi * torch.rand(len(_RIPPLES), generator=generator)
    waves[:, _RIPPLES] = torch.tensor(_RIPPLE_CYCLES) * torch.stack([angles.cos(), angles.sin()])
    waves[:, _HASH] = torch.randn(2, len(_HASH), generator=generator)
    return waves


def _both(waves: Sequence[int]) -> list[int]:
    """Channels of the positional encoding: sine and cosine of each wave."""
    return [channel for wave in waves for channel in (wave, WIDTH // 2 + wave)]


def _mark(kind: str) -> int:
    """The first of a kind of token's two channels, which have +_FLAG and -_FLAG."""
    return 32 + 2 * (_KINDS + _PROMPTS).index(kind)


def _clear(*layers: Any) -> None:
    for layer in layers:
        layer.weight.zero_()
        if getattr(layer, "bias", None) is not None:
            layer.bias.zero_()


def _mark_tokens(decoder: DecoderModules) -> None:
    for kind, token in decoder.tokens.items():
        token.zero_()
        token[_mark(kind)], token[_mark(kind) + 1] = _FLAG, -_FLAG


# What output tokens know of a prompt, by name: the channels of a prompt's token it is read from.
_SHARES = {
    "click": ("inside", [*_both(_AXES), *_both(_RIPPLES), _mark("inside")]),
    "hash": ("inside", _both(_HASH)),
    "top left": ("top left", [*_both(_AXES), *_PLACE, _mark("top left")]),
    "bottom right": ("bottom right", [*_both(_AXES), *_PLACE, _mark("bottom right")]),
}


def _known(name: str) -> range:
    """Where output tokens know it: numbers of pairs of channels, (64 + 2 i, 65 + 2 i)."""
    sizes = {share: len(channels) for share, (_, channels) in _SHARES.items()}
    before = list(sizes)[: list(sizes).index(name)]
    start = sum(sizes[share] for share in before)
    return range(start, start + sizes[name])


def _read_prompts(attention: Any) -> None:
    """Tokens keep their marks (head 0); output tokens copy what they know of the prompt."""
    for layer in (attention.q, attention.k, attention.v, attention.out):
        _clear(layer)
    size = WIDTH // HEADS
    strength = math.sqrt(_SURE * math.sqrt(size)) / _FLAG
    q, k, v, out = (x.weight for x in (attention.q, attention.k, attention.v, attention.out))
    for row, kind in enumerate(_KINDS + _PROMPTS):
        mark = _mark(kind)
        q[row, mark] = k[row, mark] = strength
        v[row, mark] = 1.0
        out[mark, row], out[mark + 1, row] = 1.0, -1.0
    for head, (name, (prompt, channels)) in enumerate(_SHARES.items(), 1):
        row = head * size
        q[row, [_mark(kind) for kind in _KINDS]] = strength
        # Without such a prompt they read the token for IoU, which says nothing.
        k[row, _mark(prompt)], k[row, _mark("iou")] = 2 * strength, strength
        for i, (channel, pair) in enumerate(zip(channels, _known(name), strict=True)):
            v[row + i, channel] = 1 / _FLAG if channel == _mark(prompt) else 1.0
            out[64 + 2 * pair, row + i], out[65 + 2 * pair, row + i] = 1.0, -1.0


_DRAWN = [*_both(_AXES), *_both(_RIPPLES)]  # channels that masks are made of, and a constant
_COUNT = len(_DRAWN) + 1


def _draw_waves(attention: Any) -> None:
    """Give the image its positional encoding: two channels of it to each head, and a constant."""
    for layer in (attention.q, attention.k, attention.v, attention.out):
        _clear(layer)
    inner = attention.q.out_features
    size = inner // HEADS
    q, k, v, out = (x.weight for x in (attention.q, attention.k, attention.v, attention.out))
    far = -_SURE * math.sqrt(size)
    for head in range((_COUNT + 1) // 2):
        row = head * size
        attention.q.bias[row + 2] = 1.0
        for kind in _KINDS + _PROMPTS:
            if not kind.startswith("mask"):
                k[row + 2, _mark(kind)] = far / _FLAG
        for i in range(min(2, _COUNT - 2 * head)):
            number = 2 * head + i
            if number < len(_DRAWN):
                q[row + i, _DRAWN[number]] = _SMALL * math.sqrt(size)
            else:
                attention.q.bias[row + i] = _SMALL * math.sqrt(size)
            for kind, sign in ((f"mask{2 * i}", 1.0), (f"mask{2 * i + 1}", -1.0)):
                k[row + i, _mark(kind)] = v[row + i, _mark(kind)] = sign / _FLAG
            out[2 * number, row + i], out[2 * number + 1, row + i] = 300.0, -300.0


def _move_waves(conv: nn.ConvTranspose2d, waves: Tensor, cells: int) -> None:
    """Double the resolution: the waves at the middles of `cells` x `cells` cells."""
    _clear(conv)
    for y in range(2):
        for x in range(2):
            step = torch.tensor([x - 0.5, y - 0.5]) * 2 / cells
            moved = torch.zeros(_COUNT, _COUNT)  # from, to
            moved[-1, -1] = 1.0
            for i in range(0, len(_DRAWN), 2):
                angle = 2 * math.pi * float(step @ waves[:, _DRAWN[i]])
                moved[i, i] = moved[i + 1, i + 1] = math.cos(angle)
                moved[i + 1, i], moved[i, i + 1] = math.sin(angle), -math.sin(angle)
            conv.weight[: 2 * _COUNT, : 2 * _COUNT, y, x] = _signed(moved)


def _signed(matrix: Tensor) -> Tensor:
    """A matrix (A, B) for pairs of channels with both signs: (2 A, 2 B)."""
    return torch.kron(matrix, torch.tensor([[0.5, -0.5], [-0.5, 0.5]]))


def _weigh_waves(network: Sequence[Any], depth: float, swell: Tensor, phases: Tensor) -> None:
    """Make a hypernetwork's weights of the waves (_COUNT pairs) of what is known of a prompt."""
    first, second, last = network
    _clear(first, second, last)
    known = torch.zeros(_COUNT, WIDTH)
    click, hash_ = list(_known("click")), list(_known("hash"))
    corners = [list(_known(name)) for name in ("top left", "bottom right")]
    for i in range(4):
        known[i, click[i]] = 1.0
        for corner in corners:
            known[i, corner[i]] = 0.5
    ripple = RIPPLE * depth
    for i, phase in enumerate(phases.tolist(), 4):
        known[i, click[i]] = ripple
        known[i, click[-1]] = ripple * phase
    known[-1, click[-1]] = depth - 2
    known[-1, hash_] = SWELL * depth * swell
    known[-1, [corner[-1] for corner in corners]] = SMALLEST / 2 - 1
    first.weight[: 2 * _COUNT] = _from_pairs(known).repeat_interleave(2, 0)
    first.weight[1 : 2 * _COUNT : 2] *= -1
    second.weight[: 2 * _COUNT, : 2 * _COUNT] = 2 * _signed(torch.eye(_COUNT))
    _size_boxes(first, second, corners)
    # Divided by the depth, all sizes are about as stable.
    last.weight[: 2 * _COUNT, : 2 * _COUNT] = _signed(torch.eye(_COUNT)) / depth


def _from_pairs(matrix: Tensor) -> Tensor:
    """A matrix over pairs of channels (R, n), as one over all channels (R, 256)."""
    found, pairs = torch.zeros(len(matrix), WIDTH), (WIDTH - 64) // 2
    found[:, 64::2], found[:, 65::2] = matrix[:, :pairs] / 2, -matrix[:, :pairs] / 2
    return found


def _size_boxes(first: Any, second: Any, corners: Sequence[Sequence[int]]) -> None:
    """Add the constant of a box's disc, a function of half its width and of half its height.

    The mean of its corners' waves is c = cos(w half) times the wave at its centre. With a threshold
    of (c + c²) / 2, summed over both directions, the disc reaches the box's sides where it is a
    square. Here this is piecewise linear in half.
    """
    steep, start, w = 3000.0, 2 * _COUNT, 2 * math.pi * _CYCLES
    values = [1 - (math.cos(w * h) + math.cos(w * h) ** 2) / 2 for h in _KNOTS]
    slopes = [
        (b - a) / (v - u)
        for u, v, a, b in zip(_KNOTS, _KNOTS[1:], values, values[1:], strict=False)
    ]
    bends = [b - a for a, b in zip([0.0, *slopes], slopes, strict=False)]
    top, bottom = corners
    for axis in range(2):
        for knot, bend in zip(_KNOTS, bends, strict=False):
            half = torch.zeros(1, WIDTH)
            half[0, top[4 + axis]], half[0, bottom[4 + axis]] = -5.0, 5.0
            half[0, top[-1]] = -knot
            first.weight[start] = steep * _from_pairs(half)[0]
            second.weight[2 * _COUNT - 2, start] = bend / steep
            second.weight[2 * _COUNT - 1, start] = -bend / steep
            start += 1


def _score(head: Sequence[Any], generator: torch.Generator) -> None:
    """Make a head compute random features of what is known; token 0's score is token 2's."""
    first, second, last = head
    _clear(first, second, last)
    known = torch.zeros(len(first.weight), (WIDTH - 64) // 2)
    for name in _SHARES:
        known[:, list(_known(name))] = torch.randn(
            len(known), len(_known(name)), generator=generator
        )
    first.weight.copy_(_from_pairs(known))
    for layer in (second, last):
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / 16)
    last.weight[0] = last.weight[2]
