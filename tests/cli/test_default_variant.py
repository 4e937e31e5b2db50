"""Every command that takes a variant has the same default."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from everything.batch_jobs import annotate, compare, measure, sizing
from everything.cli.main import app
from everything.recipes.resolve import DEFAULT_VARIANT

# It quantizes one of two encoders, and the default variant's is neither.
OTHERS = {"quantize"}


def leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", {})
    if not inner:
        yield path, command
    for name, one in inner.items():
        yield from leaves(one, f"{path} {name}".strip())


OPTIONS = [
    (path, option)
    for module in (None, annotate, compare, measure, sizing)
    for path, command in leaves(
        typer.main.get_command(app if module is None else module.app),
        "" if module is None else module.__name__.rpartition(".")[2],
    )
    for option in command.params
    if option.name in ("variant", "variants") and path not in OTHERS
]


def test_all_commands_are_looked_at() -> None:
    assert {path for path, _ in OPTIONS} == {
        "label", "bench", "compare", "evaluate", "settings", "train auto-ppn",
        "annotate", "measure throughput",
    }  # fmt: skip


@pytest.mark.parametrize(("path", "option"), OPTIONS, ids=[path for path, _ in OPTIONS])
def test_the_default_variant(path: str, option: Any) -> None:
    said = option.show_default if option.default is None else option.default
    assert str(said).partition(",")[0] == DEFAULT_VARIANT
