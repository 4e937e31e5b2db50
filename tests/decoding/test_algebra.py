"""Each step of the algebra against what the plain modules compute there, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from everything.decoding import upscale
from everything.decoding.decoder_parts import Parts, read_sam
from everything.decoding.image_passes import (
    FirstUpdate,
    SecondUpdate,
    Workspace,
    first_pass,
    second_pass,
)
from everything.decoding.image_side import ImageSide, image_side
from everything.decoding.low_rank import (
    differences,
    gram,
    mix_,
    quadratic_,
    rows,
    split_heads,
)
from everything.decoding.token_attention import attend_to_shared_image
from everything.decoding.weight_folding import Folded, centred, fold

GRID, CONTENT = (5, 6), (4, 5)
PROMPTS, TOKENS, HEADS, WIDTH = 3, 7, 4, 64


class Trace:
    """One run of the plain transformer, with what went into and came out of its modules."""

    def __init__(self, ex: Any) -> None:
        self.inputs: dict[str, tuple[Any, ...]] = {}
        self.outputs: dict[str, Any] = {}
        self.modules = dict(ex.mask_decoder.transformer.named_modules())
        handles = [
            module.register_forward_hook(self._keep(name)) for name, module in self.modules.items()
        ]
        self.position = ex.prompt_encoder.get_dense_pe().double()
        sparse = torch.randn(PROMPTS, TOKENS - 5, WIDTH, dtype=torch.float64)
        learned = read_sam(ex.mask_decoder).tokens.expand(PROMPTS, -1, -1)
        self.tokens = torch.cat([learned, sparse], 1)
        many = (PROMPTS, -1, -1, -1)
        with torch.no_grad():
            ex.mask_decoder.transformer(
                ex.embedding.expand(*many), self.position.expand(*many), self.tokens
            )
        for handle in handles:
            handle.remove()

    def _keep(self, name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            self.inputs[name], self.outputs[name] = inputs, output

        return hook

    def heads(self, name: str) -> Tensor:
        """A projection's output by head, (P, h, T, d)."""
        return split_heads(self.outputs[name], HEADS)

    def scaled(self, name: str) -> Tensor:
        """The same over √d."""
        found = self.heads(name)
        return found / found.shape[-1] ** 0.5


@dataclass(frozen=True)
class State:
    """One run of the passes on what the plain modules had at that point."""

    ex: Any
    trace: Trace
    parts: Parts
    folded: Folded
    image: ImageSide
    X: Tensor
    update0: FirstUpdate
    work: Workspace
    read1: Tensor
    s1: Tensor
    readf: Tensor
    s2: Tensor


@pytest.fixture(scope="module")
def state(example: Any) -> State:
    ex = example(WIDTH, HEADS, GRID).double()
    trace = Trace(ex)
    with torch.no_grad():
        parts = read_sam(ex.mask_decoder)
        folded = fold(parts, trace.position[0].flatten(1).T)
        X = ex.embedding[0].flatten(1).T
        image = image_side(parts, folded, X, GRID, CONTENT)
        first, second = (f"layers.{i}.cross_attn_image_to_token" for i in range(2))
        update0 = FirstUpdate.of(
            folded, trace.scaled(f"{first}.k_proj"), trace.heads(f"{first}.v_proj")
        )
        update1 = SecondUpdate.of(
            folded, update0, trace.scaled(f"{second}.k_proj"), trace.heads(f"{second}.v_proj")
        )
        work = Workspace.like(image.n0, PROMPTS, HEADS, TOKENS)
        q1 = trace.scaled("layers.1.cross_attn_token_to_image.q_proj")
        qf = trace.scaled("final_attn_token_to_image.q_proj")
        read1, s1 = first_pass(folded, image, update0, q1, work)
        readf, s2 = second_pass(folded, image, (update0, update1), s1, qf, work)
    return State(ex, trace, parts, folded, image, X, update0, work, read1, s1, readf, s2)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


def test_rank_cut_is_the_attention_update() -> None:
    torch.manual_seed(0)
    scores = torch.randn(HEADS, TOKENS, 30, dtype=torch.float64)
    v = torch.randn(1, HEADS, TOKENS, 8, dtype=torch.float64)
    E = torch.randn(HEADS, 8, 20, dtype=torch.float64)
    expected = torch.einsum("htn,htd,hdf->nf", scores.softmax(1), v[0], E)
    a = torch.ones(HEADS * (TOKENS - 1) + 1, 30, dtype=torch.float64)
    mix_(scores, a)
    close(a.T @ rows(differences(v), E)[0], expected)


def test_quadratic_form_is_what_an_update_adds_to_the_squared_length() -> None:
    torch.manual_seed(0)
    C, K, N = 20, 6, 30
    X, M, a = (torch.randn(*s, dtype=torch.float64) for s in ((N, C), (K, C), (K, N)))
    expected = (X + a.T @ M).square().mean(1) - X.square().mean(1)
    close(quadratic_((2 / C) * M @ X.T, gram(M[None], M[None])[0], a), expected)


def test_first_attention_reads_the_shared_keys(state: State) -> None:
    trace, image, parts = state.trace, state.image, state.parts
    tokens = trace.inputs["layers.0.cross_attn_token_to_image.q_proj"][0]
    with torch.no_grad():
        read = attend_to_shared_image(parts.first.to_image, tokens, image.K0, image.V0)
    close(read, trace.inputs["layers.0.cross_attn_token_to_image.out_proj"][0])


def test_s1_is_one_over_the_standard_deviation_before_the_first_norm(state: State) -> None:
    before = state.trace.inputs["layers.0.norm4"][0]
    expected = (before.var(-1, unbiased=False) + state.folded.eps0).rsqrt()
    close(state.s1, expected)


def test_s2_is_one_over_the_standard_deviation_before_the_second_norm(state: State) -> None:
    before = state.trace.inputs["layers.1.norm4"][0]
    expected = (before.var(-1, unbiased=False) + state.folded.eps1).rsqrt()
    close(state.s2, expected)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("k1", "layers.1.cross_attn_token_to_image.k_proj"),
        ("v1", "layers.1.cross_attn_token_to_image.v_proj"),
        ("q1", "layers.1.cross_attn_image_to_token.q_proj"),
    ],
)
def test_readings_of_the_keys_after_the_first_layer(state: State, name: str, module: str) -> None:
    folded, X = state.folded, state.X
    reading = getattr(folded, name)
    shared = centred(X + folded.bo0) @ reading.W
    low = rows(state.update0.v0, reading.E[0])
    for p in range(PROMPTS):
        a, s1 = state.work.a[p], state.s1[p]
        found = s1[:, None] * (shared + a.T @ low[p]) + reading.P.T
        close(found, state.trace.outputs[module][p])


def test_layer_one_reads_the_updated_keys(state: State) -> None:
    expected = state.trace.inputs["layers.1.cross_attn_token_to_image.out_proj"][0]
    close(state.read1, expected)


def test_the_final_attention_reads_the_twice_updated_keys(state: State) -> None:
    expected = state.trace.inputs["final_attn_token_to_image.out_proj"][0]
    close(state.readf, expected)


def test_transposed_convolutions_are_products(state: State) -> None:
    modules = state.ex.mask_decoder.output_upscaling
    keys = torch.randn(1, WIDTH, *GRID, dtype=torch.float64)
    with torch.no_grad():
        expected = modules(keys)[0]
        tokens = keys[0].flatten(1)
        conv = modules[0]
        u = torch.einsum("cfij,cn->ijfn", conv.weight, tokens) + conv.bias[:, None]
        u = (u - u.mean(2, keepdim=True)).flatten(0, 1)
        features = upscale.mask_features(u, state.parts.upscaling, None)
    found = torch.empty_like(expected)
    for channel, out in enumerate(found):
        upscale.assemble_(features[:, :, channel], out)
    close(found, expected)
