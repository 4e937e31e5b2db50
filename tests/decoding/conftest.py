"""Decoders of SAM's structure with seeded random weights, small enough for float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from torch import Tensor, nn

from everything.decoding.backends.gpu_batched import compiled

Grid = tuple[int, int]


@dataclass(frozen=True)
class Example:
    """A prompt encoder, a mask decoder and an embedding (1, C, h, w); 16 px to a cell."""

    prompt_encoder: PromptEncoder
    mask_decoder: MaskDecoder
    embedding: Tensor

    def double(self) -> Example:
        """Return the same with the decoder and the embedding in float64."""
        width = self.mask_decoder.transformer_dim
        attention = self.mask_decoder.transformer.final_attn_token_to_image
        mlp = self.mask_decoder.transformer.layers[0].mlp.lin1.out_features
        copy = _mask_decoder(width, attention.num_heads, mlp).double()
        copy.load_state_dict(self.mask_decoder.state_dict(), strict=True)
        return Example(self.prompt_encoder, copy.eval(), self.embedding.double())

    @property
    def frame(self) -> Tensor:
        """Width and height of the prompt encoder's frame, px."""
        height, width = self.prompt_encoder.input_image_size
        return torch.tensor([float(width), float(height)])


def _mask_decoder(width: int, heads: int, mlp: int) -> MaskDecoder:
    transformer = TwoWayTransformer(2, width, heads, mlp)
    return MaskDecoder(transformer_dim=width, transformer=transformer)


def _lively(module: nn.Module) -> None:
    """Give norms a weight and a bias, so that a test notices where either is left out."""
    for child in module.modules():
        if isinstance(child, nn.LayerNorm) or type(child).__name__ == "LayerNorm2d":
            child.weight.data.normal_(1, 0.3)
            child.bias.data.normal_(0, 0.3)
        if isinstance(child, nn.Linear | nn.ConvTranspose2d):
            child.bias.data.normal_(0, 0.2)


@pytest.fixture(scope="session")
def example() -> Callable[..., Example]:
    """A maker of examples: width, heads, grid (rows, columns) of the embedding, mlp width."""

    def make(width: int = 64, heads: int = 4, grid: Grid = (6, 9), mlp: int = 96) -> Example:
        torch.manual_seed(7)
        height, width_px = 16 * grid[0], 16 * grid[1]
        prompt_encoder = PromptEncoder(width, grid, (height, width_px), 16).eval()
        mask_decoder = _mask_decoder(width, heads, mlp).eval()
        _lively(mask_decoder)
        return Example(prompt_encoder, mask_decoder, torch.randn(1, width, *grid))

    return make


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The graphs that are made, which run as they are: to compile them takes a minute."""
    made: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        made.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled.cache_clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    yield made
    torch.compiler.reset()
    compiled.cache_clear()
