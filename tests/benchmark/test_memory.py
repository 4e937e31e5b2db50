"""What a process says that it holds."""

from __future__ import annotations

import torch

from everything.benchmark.memory import peak_resident, resident

MIB = 2**20


def test_peaks_are_seen_and_do_not_go_down():
    before = peak_resident()
    block = torch.ones(64 * MIB // 4)
    assert resident() > 64 * MIB
    at_most = peak_resident()
    assert at_most >= before
    assert at_most >= resident()
    del block
    assert peak_resident() >= at_most - MIB  # the system counts in batches of pages
