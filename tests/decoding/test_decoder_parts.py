"""The parts of a decoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from everything.decoding import SharedImageDecoder
from everything.decoding.decoder_parts import Stacked
from tests.decoding.test_shared_image import all_of, prompts


@torch.no_grad()
def test_networks_as_one_are_the_networks(example: Any) -> None:
    ex = example()
    decoder = SharedImageDecoder.of(ex.prompt_encoder, ex.mask_decoder)
    stacked = Stacked.of(decoder.parts.hypernetworks)
    assert stacked is not None
    image = decoder.prepare(ex.embedding)
    as_one = replace(image, parts=replace(image.parts, stacked=stacked))
    for several in (True, False):
        question = (*prompts(ex, "point", 5), several)
        found, expected = (all_of(each.propose(*question)) for each in (as_one, image))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_networks_of_another_kind_are_left_as_they_are() -> None:
    assert Stacked.of([nn.Sequential(nn.Linear(2, 2))]) is None
