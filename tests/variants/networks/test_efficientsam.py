"""EfficientSAM's decoder: the shared image side gives its own answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from everything.decoding import PlainDecoder, SharedImageDecoder, UnlikeSAM, choose
from everything.decoding.backends.cpu_kernels import KernelImage
from everything.decoding.backends.gpu_batched import TorchBatches
from everything.decoding.backends.protocol import Limits
from everything.kernels import loader
from everything.variants.networks.efficientsam import SixPoints, blueprint

SIDE = 96
ROWS = torch.tensor([8, 0, 1, 2, 5, 5])
KINDS = {"point": [1], "background point": [0], "box": [2, 3], "points and box": [1, 0, 2, 3]}


@dataclass(frozen=True)
class Decoders:
    """The parts of EfficientSAM's decoder with seeded weights, and an embedding."""

    prompt_encoder: SixPoints
    mask_decoder: Any
    embedding: Tensor

    def of(self, kind: str, count: int = 3) -> tuple[Tensor, Tensor, bool]:
        labels = torch.tensor(KINDS[kind]).expand(count, -1)
        generator = torch.Generator().manual_seed(count)
        return torch.rand(count, labels.shape[1], 2, generator=generator) * SIDE, labels, True

    def plain(self, *question: Any) -> Any:
        image = PlainDecoder(self.prompt_encoder, self.mask_decoder).prepare(self.embedding)
        return image.propose(*question)

    def shared(self, kernels: str = "torch") -> SharedImageDecoder:
        return SharedImageDecoder.of(self.prompt_encoder, self.mask_decoder, kernels)


@pytest.fixture(scope="module")
def decoders() -> Decoders:
    torch.manual_seed(3)
    with torch.device("meta"):
        network = blueprint(embed_dim=8, heads=1, depth=1, side=SIDE).network
    network = network.to_empty(device="cpu").eval()
    for name, weight in network.named_parameters():
        spread = 0.3 if weight.dim() == 1 else 1 / weight[0].numel() ** 0.5
        nn.init.normal_(weight, 1.0 if "norm" in name and "weight" in name else 0.0, spread)
    upscaling = network.mask_decoder.output_upscaling[1]
    nn.init.normal_(upscaling.weight, 1.0, 0.3)
    network.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.normal_()
    embedding = torch.randn(1, 256, SIDE // 16, SIDE // 16)
    return Decoders(network.prompt_encoder, network.mask_decoder, embedding)


@pytest.fixture
def exact(decoders: Decoders) -> Any:
    decoders.mask_decoder.double()
    yield replace(decoders, embedding=decoders.embedding.double())
    decoders.mask_decoder.float()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_it_is_the_plain_decoder_in_float64(exact: Decoders, kind: str) -> None:
    question = exact.of(kind)
    expected = exact.plain(*question)
    assert expected.draw(ROWS).std() > 0.01
    image = exact.shared().prepare(exact.embedding, (2, 6))  # all is drawn: the norm sees all
    batches = TorchBatches(Limits()).image(image.parts, image.folded, image.image)
    for each in (image, replace(image, side=batches)):
        found = each.propose(*question)
        torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-12)
        torch.testing.assert_close(found.draw(ROWS), expected.draw(ROWS), rtol=0, atol=1e-11)


@pytest.mark.skipif(loader.kernels is None, reason="the C++ kernels were not built")
@torch.no_grad()
def test_the_passes_are_those_of_the_kernels(decoders: Decoders) -> None:
    question = decoders.of("point", 5)
    expected, image = (
        decoders.plain(*question),
        decoders.shared("fused").prepare(decoders.embedding),
    )
    assert isinstance(image.side, KernelImage)
    found = image.propose(*question)
    largest = float(expected.draw(ROWS).abs().max())
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.draw(ROWS), expected.draw(ROWS), rtol=0, atol=1e-5 * largest)


def test_the_shared_decoder_is_chosen(decoders: Decoders) -> None:
    parts = decoders.prompt_encoder, decoders.mask_decoder
    assert isinstance(choose(*parts), SharedImageDecoder)
    stages = decoders.mask_decoder.output_upscaling
    norm, stages[1] = stages[1], nn.GroupNorm(4, 64)
    try:
        assert isinstance(choose(*parts), PlainDecoder)
        with pytest.raises(UnlikeSAM, match="4 groups"):
            SharedImageDecoder.of(*parts)
    finally:
        stages[1] = norm
