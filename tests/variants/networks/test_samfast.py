"""SAMfast-H is a recipe: SAM-H's network, bfloat16, compiled, many prompts at once."""

from __future__ import annotations

import shutil

import pytest
import torch

from everything.core.geometry import whole
from everything.recipes.resolve import resolve
from everything.variants import VARIANTS
from everything.variants.networks import sam
from tests.photos import photo
from tests.variants.synthetic import checkpoint, options


def test_the_recipe_is_of_sam_h() -> None:
    recipe = resolve(config="samfast-h")
    assert recipe.variant == "sam-vit-h"
    assert recipe.weights == VARIANTS["sam-vit-h"].weights.sha256
    assert (recipe.compute.precision, recipe.compute.compile) == ("bf16", True)
    assert recipe.decoding.points_per_batch == 1024
    assert resolve("sam-vit-h").digest != recipe.digest


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_shrunk_sam_h_runs_under_it() -> None:
    given = options("sam-vit-h", small=True) | {"embed_dim": 160}
    state = checkpoint(sam.blueprint(**given))
    view = whole(photo("chelsea", 160))
    exact = sam.build(dict(state), "synthetic", **given)
    compute = resolve(config="samfast-h").compute
    fast = sam.build(dict(state), "synthetic", compute, **given)
    with torch.inference_mode():
        expected, found = (model.features(model.encode(view)) for model in (exact, fast))
    assert found.dtype == torch.float32
    error = (found - expected).norm() / expected.norm()
    assert 0 < error < 0.05
