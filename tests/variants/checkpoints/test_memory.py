"""Weights are in memory once, however they come."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from everything.variants.networks import sam
from tests.variants.synthetic import options

# In a process of its own: what it holds is its own, and at its highest.
LOAD = """
import sys
from pathlib import Path
from everything.variants.networks import sam
from everything.variants.checkpoints.reader import read_state
def peak():  # of this process alone: getrusage's is inherited
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
given = eval(sys.argv[2])
sam.blueprint(**given)  # what is imported on the way
before = peak()
model = sam.build(read_state(Path(sys.argv[1])), sys.argv[1], **given)
touched = sum(float(p.sum()) for p in model.network.parameters())
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is told by Linux")
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_checkpoint_is_not_held_twice(tmp_path: Path, suffix: str) -> None:
    given = options("sam-vit-h") | {"depth": 6, "global_attn_indexes": (5,)}
    shapes = sam.blueprint(**given).shapes()
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    file = tmp_path / f"wide.{suffix}"
    torch.save(state, file) if suffix == "pth" else save_file(state, file)
    size = file.stat().st_size
    assert size > 450e6
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, str(file), repr(given)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert 0.9 * size < float(found.stdout) < 1.15 * size
