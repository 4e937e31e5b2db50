from __future__ import annotations

import pytest

from everything.config import Compute
from everything.core.device import device_of
from everything.errors import ConfigError
from everything.recipes.resolve import resolve


@pytest.mark.parametrize("name", ["cuda:99", "xpu", "tpu", "meta", "meta:x"])
def test_a_device_that_is_not_here_is_a_clear_error(name: str):
    with pytest.raises(ConfigError, match="device not available") as caught:
        device_of(Compute(device=name))
    assert len(str(caught.value)) < 300


def test_the_device_is_not_part_of_what_was_done():
    here, there = (resolve("nano", flags={"device": name}) for name in ("cpu", "auto"))
    assert here.digest == there.digest
    assert resolve("nano", flags={"precision": "bf16"}).digest != here.digest
