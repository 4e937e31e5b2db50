"""Tests run several at a time: one thread each."""

import torch

torch.set_num_threads(1)
