"""Tests run several at a time: one thread each, and none hears what another has set up."""

import logging
import os
from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)
if not torch.cuda.is_available():
    # Triton's kernels run on the CPU; it looks when it is imported, which torch does later.
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """The program's log goes to a command's console, which is a test's own and ends with it."""
    loggers = [logging.getLogger(package) for package in ("everything", "batch_jobs")]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, state in zip(loggers, before, strict=True):
        logger.handlers, logger.level, logger.propagate = state
