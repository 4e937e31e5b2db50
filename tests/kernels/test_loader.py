from types import SimpleNamespace

import pytest

from everything.kernels import loader


def test_kernels_built_from_other_sources_are_not_used(caplog: pytest.LogCaptureFixture) -> None:
    assert loader.usable(SimpleNamespace()) is None
    assert "kernels are of another version, and not used: install again" in caplog.text
    now = SimpleNamespace(INTERFACE=loader.INTERFACE)
    assert loader.usable(now) is now
    assert loader.kernels is None or loader.usable(loader.kernels) is loader.kernels
