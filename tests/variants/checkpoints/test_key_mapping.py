"""Tables of names, on networks of a few numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from everything.variants.checkpoints.key_mapping import Blueprint, fill_buffers

NAMES = ((r"^0\.", "first."), (r"^1\.weight", "rows.*.weight"))


def plan() -> Blueprint[nn.Sequential]:
    with torch.device("meta"):
        network = nn.Sequential(nn.Linear(2, 3), nn.Embedding(2, 4))
    return Blueprint(network, NAMES, ("video.",))


STATE = {
    "first.weight": torch.arange(6.0).reshape(3, 2),
    "first.bias": torch.ones(3),
    "rows.0.weight": torch.zeros(1, 4),
    "rows.1.weight": torch.ones(1, 4),
    "video.memory": torch.zeros(9),
}


def test_the_values_come_where_the_table_says() -> None:
    assert plan().shapes() == {n: t.shape for n, t in STATE.items() if n != "video.memory"}
    linear, rows = plan().load(STATE, "file")
    assert torch.equal(linear.weight, STATE["first.weight"])
    assert torch.equal(rows.weight, torch.tensor([[0.0] * 4, [1.0] * 4]))


def test_nothing_is_held_twice() -> None:
    linear, _ = plan().load(STATE, "file")
    assert linear.weight.data_ptr() == STATE["first.weight"].data_ptr()


def test_another_precision_becomes_the_networks() -> None:
    halves = {name: tensor.half() for name, tensor in STATE.items()}
    linear, rows = plan().load(halves, "file")
    assert linear.weight.dtype == rows.weight.dtype == torch.float32


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("squares", torch.empty(4), persistent=False)

    def init_non_persistent_buffers(self) -> None:
        self.squares.copy_(torch.arange(4) ** 2)


class Forgetful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.empty(4))


def test_buffers_that_no_checkpoint_holds_are_computed() -> None:
    with torch.device("meta"):
        network = nn.Sequential(Table())
    fill_buffers(network)
    assert network[0].squares.tolist() == [0, 1, 4, 9]


def test_a_tensor_without_values_is_never_left_behind() -> None:
    with torch.device("meta"):
        network = nn.Sequential(Forgetful())
    with pytest.raises(RuntimeError, match=r"no values for 0\.kept"):
        fill_buffers(network)


def test_tinyvits_offsets_are_those_of_a_network_made_with_values() -> None:
    import timm

    from tests.variants.synthetic import blueprint, checkpoint

    tiny = blueprint("mobilesam", small=True)
    network = tiny.load(checkpoint(tiny), "file")
    found = dict(network.image_encoder.body.named_buffers())
    other = dict(timm.create_model("tiny_vit_5m_224", num_classes=1000).named_buffers())
    offsets = [name for name in other if name.endswith("attention_bias_idxs")]
    assert len(offsets) == 10
    assert all(torch.equal(found[name], other[name]) for name in offsets)
