from __future__ import annotations

import shutil

import pytest
import torch

from everything.config import Compute
from everything.core.geometry import View, whole
from everything.errors import ConfigError
from everything.recipes.build import build, load
from everything.recipes.resolve import resolve
from everything.variants.networks.encoder_settings import configure_encoder
from everything.variants.networks.sam import SamModel
from tests.blob_sam import blob_sam
from tests.photos import photo


@pytest.fixture(scope="module")
def view() -> View:
    return whole(photo("chelsea", 96))


def embedding(view: View, compute: Compute) -> torch.Tensor:
    model = SamModel(blob_sam(), compute)
    with torch.inference_mode():
        return model.features(model.encode(view))


@pytest.mark.parametrize(("precision", "near"), [("bf16", 0.05), ("fp16", 0.01)])
def test_a_lower_precision_is_near_and_comes_back_as_float32(
    view: View, precision: str, near: float
):
    exact = embedding(view, Compute())
    found = embedding(view, Compute(precision=precision))
    assert found.dtype == torch.float32
    error = (found - exact).abs().max() / exact.abs().max()
    assert 0 < error < near


def test_float32_and_auto_are_equal_where_the_variant_was_made_for_float32(view: View):
    exact = embedding(view, Compute())
    assert torch.equal(exact, embedding(view, Compute(precision="fp32", device="cpu")))


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_encoder_says_the_same(view: View):
    encoder = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.GELU())
    x = torch.randn(5, 3)
    before = encoder(x)
    configure_encoder(encoder, Compute(compile=True, device="cpu"))
    assert torch.allclose(encoder(x), before, atol=1e-6)
    assert encoder._compiled_call_impl is not None


@pytest.mark.parametrize("variant", ["ucm", "nano"])
def test_embedded_variants_take_a_precision(variant: str, view: View):
    models = [load(variant, precision=precision).model for precision in ("fp32", "bf16")]
    with torch.inference_mode():
        exact, reduced = (model.features(model.encode(view)) for model in models)
    assert exact.dtype == reduced.dtype == torch.float32
    assert 0 < (exact - reduced).abs().max() < 0.2 * exact.abs().max()


@pytest.mark.parametrize("variant", ["ucm", "ucm-lite0"])
def test_ucm_is_neither_compiled_nor_recorded(variant: str):
    with pytest.raises(ConfigError, match="drop --compile"):
        build(resolve(variant, flags={"compile": True}))
    with pytest.raises(ConfigError, match="leave it out"):
        build(resolve(variant, flags={"cuda_graphs": True}))
